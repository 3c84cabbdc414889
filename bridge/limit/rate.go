package limit

import "math"

// Rate is a limit: messages per second in the long run, and the number that may arrive together. A
// rate of 0 or less means no limit.
type Rate struct {
	Rate  float64 `json:"rate"`
	Burst int     `json:"burst"`
}

// Meter applies a [Rate] by GCRA: the bucket is one timestamp, the theoretical arrival time (TAT)
// of the next message of a device that sends evenly at its rate.
type Meter struct {
	interval int64 // ns between messages at the rate; 0: no limit
	slack    int64 // ns by which the TAT may be ahead of now
	since    int64 // when the rate took effect, ns since the epoch
	rateID   uint16
	rateIDs  *rateIDs // the table that rateID refers to; nil: no id
}

func (r Rate) meter() Meter {
	if r.Rate <= 0 {
		return Meter{}
	}
	interval := int64(math.Max(1, math.Min(1e9/r.Rate, math.MaxInt64/1e6)))
	const maxSlack = math.MaxInt64 / 4 // 73 years: adding twice that to the current time cannot overflow
	return Meter{interval: interval, slack: interval * min(int64(max(r.Burst, 1)-1), maxSlack/interval)}
}

// Unlimited reports whether there is no limit.
func (m Meter) Unlimited() bool { return m.interval == 0 }

// take charges one message to tat at the time now (ns). credit widens the bucket by that many ns
// into the past. It returns the new TAT and whether the message conforms. A message that does not
// conform is not charged.
func (m Meter) take(tat, now, credit int64) (int64, bool) {
	if m.interval == 0 {
		return tat, true
	}
	tat = max(tat, now-credit)
	if tat-now > m.slack {
		return tat, false
	}
	return tat + m.interval, true
}

// left returns how many messages would conform at the time now; -1: no limit.
func (m Meter) left(tat, now int64) int {
	if m.interval == 0 {
		return -1
	}
	room := m.slack - (max(tat, now) - now)
	if room < 0 {
		return 0
	}
	return int(room/m.interval) + 1
}
