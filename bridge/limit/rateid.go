package limit

import (
	"math"
	"sync"
	"sync/atomic"
)

// rateIDs numbers all rates that were in force, so that two bytes of a
// device's entry say which one its TAT was counted by. A rate that changed is then
// noticed with the device's next message, and nothing has to walk through a
// million devices. Safe for concurrent use.
type rateIDs struct {
	mu    sync.Mutex
	ids   map[[2]int64]uint16
	table atomic.Pointer[[]Meter] // [0] is of no rate
}

// maxRateIDs bounds the ids. Further rates have none; see [Meter.convert].
const maxRateIDs = math.MaxUint16

// meter returns the meter of a rate that is in force since then (ns since the epoch).
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
	grown := append(old, m) // readers of the old one do not look beyond its end
	s.table.Store(&grown)
	return m
}

// number returns the meter with that number; without an interval where there is
// none.
func (s *rateIDs) number(id uint16) Meter {
	if s == nil || id == 0 {
		return Meter{}
	}
	return (*s.table.Load())[id]
}

// convert converts a TAT that was counted by another meter. A TAT means nothing
// under another rate: with one message an hour and a burst of ten, a spent bucket
// is ten hours of TAT, and a device whose limit was raised would stand still for
// them; the other way round a spent bucket of seconds would be a nearly full one
// of minutes.
//
// So what counts is what the device had left, in messages, when the new rate came
// into force, or at its latest message (clock) if that was later. It keeps that,
// up to the new burst, and gains at the new rate from there on. A full bucket is
// full under the new limit: a device that was quiet may send the new burst at once, as a
// device may that was never seen.
func (m Meter) convert(scale uint16, tat, clock, now int64) int64 {
	at := min(max(m.since, clock), now)
	if tat <= at {
		return tat // full; how long ago matters to credit, see Meter.take
	}
	was := m.rateIDs.number(scale)
	size := m.slack + m.interval
	if was.interval == 0 {
		// Not known by which rate: nobody waits longer than for a full bucket.
		return min(tat, now+size)
	}
	left := float64(was.slack+was.interval-(tat-at)) / float64(was.interval)
	gain := math.Floor(max(left, 0) * float64(m.interval))
	if gain >= float64(size) {
		return at
	}
	return at + size - int64(gain)
}
