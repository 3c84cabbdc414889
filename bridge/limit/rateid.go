package limit

import (
	"math"
	"sync"
	"sync/atomic"
)

// rateIDs numbers all rates that were in effect, so that two bytes of a device's entry
// identify the one by which its TAT was counted. A change of the rate is then noticed with
// the device's next message, and no change has to visit a million devices. Safe for
// concurrent use.
type rateIDs struct {
	mu    sync.Mutex
	ids   map[[2]int64]uint16
	table atomic.Pointer[[]Meter] // [0] is of no rate
}

// maxRateIDs bounds the ids. Further rates have none; see Meter.convert.
const maxRateIDs = math.MaxUint16

// meter returns the meter of a rate that is in effect since then (ns since the epoch).
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
	grown := append(old, m) // readers of the old one do not read beyond its end
	s.table.Store(&grown)
	return m
}

// number returns the meter with that number; without an interval if there is none.
func (s *rateIDs) number(id uint16) Meter {
	if s == nil || id == 0 {
		return Meter{}
	}
	return (*s.table.Load())[id]
}

// convert converts a TAT that was counted by another meter. A TAT means nothing under
// another rate. With one message per hour and a burst of ten, an exhausted bucket is ten
// hours of TAT: a device whose limit was raised could not send for ten hours. Conversely an
// exhausted bucket of seconds would be a nearly full one of minutes.
//
// So the device keeps what it had left, in messages, up to the new burst: when the new rate
// took effect, or at its latest message (clock) if that was later. It gains at the new rate
// from then on. A full bucket is full under the new limit: a device that was quiet may send
// the whole new burst, as may a device that was never seen.
func (m Meter) convert(scale uint16, tat, clock, now int64) int64 {
	at := min(max(m.since, clock), now)
	if tat <= at {
		return tat // full; credit depends on since when, see Meter.take
	}
	was := m.rateIDs.number(scale)
	size := m.slack + m.interval
	if was.interval == 0 {
		// The rate is not known: a device waits no longer than for a full bucket.
		return min(tat, now+size)
	}
	left := float64(was.slack+was.interval-(tat-at)) / float64(was.interval)
	gain := math.Floor(max(left, 0) * float64(m.interval))
	if gain >= float64(size) {
		return at
	}
	return at + size - int64(gain)
}
