package limit

import (
	"cmp"
	"slices"
	"time"
)

// TopBy is the count by which Top ranks devices.
type TopBy string

// The counts by which Top can rank devices.
const (
	ByReceived TopBy = "received"
	ByRejected TopBy = "rejected"
)

// Top returns the n devices with the most received or rejected messages, in descending order.
// Devices with none are omitted. It reads the whole table, locking one shard at a time.
func (d *Budgets) Top(n int, by TopBy, limits *Live) []Device {
	now := time.Now().UnixNano()
	var top []Device
	for i := range d.shards {
		top = append(top, d.shards[i].top(n, by, limits, now)...)
	}
	slices.SortFunc(top, func(a, b Device) int {
		return cmp.Or(cmp.Compare(by.of(b), by.of(a)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Device, b.Device))
	})
	return top[:min(n, len(top))]
}

func (by TopBy) of(d Device) uint64 {
	if by == ByRejected {
		return d.rejected
	}
	return d.Received
}

// top returns the top n devices of a shard, in no particular order.
func (s *deviceShard) top(n int, by TopBy, limits *Live, now int64) []Device {
	type candidate struct {
		entry uint32
		count uint64
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []candidate
	for i := range s.entries {
		e := s.at(i)
		count := e.received
		if by == ByRejected {
			count = s.rejected(e)
		}
		if e.used && count > 0 {
			all = append(all, candidate{i, count})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(b.count, a.count) })
	out := make([]Device, 0, min(n, len(all)))
	for _, c := range all[:min(n, len(all))] {
		out = append(out, s.export(c.entry, limits, now))
	}
	return out
}
