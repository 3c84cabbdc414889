package limit

import (
	"math"
	"sync"
	"sync/atomic"
)

// rateIDs numbers all rates used so far, so two bytes of a device's entry identify the rate with
// which its TAT was counted. A change of the rate is noticed at the device's next message, instead
// of visiting a million devices. Safe for concurrent use.
type rateIDs struct {
	mu    sync.Mutex
	ids   map[[2]int64]uint16
	table atomic.Pointer[[]Meter] // [0] is no rate
}

// maxRateIDs bounds the ids. Further rates have none; see Meter.convert.
const maxRateIDs = math.MaxUint16

// meter returns the meter of a rate that applies since then (ns since the epoch).
func (s *rateIDs) meter(r Rate, since int64) Meter {
	m := r.meter()
	if m.interval == 0 {
		return m
	}
	m.since, m.rateIDs = since, s
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]int64{m.interval, m.slack}
	if id, ok := s.ids[key]; ok {
		m.rateID = id
		return m
	}
	old := []Meter{{}}
	if t := s.table.Load(); t != nil {
		old = *t
	}
	if len(old) > maxRateIDs {
		return m
	}
	if s.ids == nil {
		s.ids = map[[2]int64]uint16{}
	}
	m.rateID = uint16(len(old))
	s.ids[key] = m.rateID
	grown := append(old, m) // readers of the old slice do not read beyond its end
	s.table.Store(&grown)
	return m
}

// number returns the meter with that id, or one without an interval if there is none.
func (s *rateIDs) number(id uint16) Meter {
	if s == nil || id == 0 {
		return Meter{}
	}
	return (*s.table.Load())[id]
}

// convert converts a TAT that was counted with another meter. A TAT is meaningless under another
// rate. With one message per hour and a burst of ten, an exhausted bucket is ten hours of TAT: a
// device whose limit was raised could not send for ten hours. Conversely, an exhausted bucket of
// seconds would be an almost full bucket of minutes.
//
// So the device keeps what it had left, in messages, up to the new burst. The reference time is
// when the new rate took effect or the device's latest message (clock), whichever is later. From
// then on it gains at the new rate. A full bucket stays full: a device that was idle may send the
// whole new burst, as may a new device.
func (m Meter) convert(rateID uint16, tat, clock, now int64) int64 {
	at := min(max(m.since, clock), now)
	if tat <= at {
		return tat // full; credit depends on how long, see Meter.take
	}
	was := m.rateIDs.number(rateID)
	size := m.slack + m.interval
	if was.interval == 0 {
		// The rate is unknown: the device waits at most for a full bucket.
		return min(tat, now+size)
	}
	left := float64(was.slack+was.interval-(tat-at)) / float64(was.interval)
	gain := math.Floor(max(left, 0) * float64(m.interval))
	if gain >= float64(size) {
		return at
	}
	return at + size - int64(gain)
}
