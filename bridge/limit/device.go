package limit

import (
	"hash/maphash"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
)

// Device is the state and the counts of one device.
type Device struct {
	Tenant   string            `json:"tenant"`
	Device   string            `json:"device"`
	Received uint64            `json:"received"`
	Stored   uint64            `json:"stored"`
	Rejected map[string]uint64 `json:"rejected,omitempty"` // by reason
	LastSeen time.Time         `json:"last_seen"`          // to the second
	// TokensLeft is the number of messages that the device may send now; -1: no limit.
	TokensLeft int `json:"tokens_left"`
	// Limit is the rate that applies to the device; nil: no limit.
	Limit    *Rate `json:"limit,omitempty"`
	rejected uint64
}

// Rejections returns the sum over all reasons.
func (d Device) Rejections() uint64 { return d.rejected }

func (s *deviceShard) export(n uint32, limits *Live, now int64) Device {
	e := s.at(n)
	tenant, name, _ := strings.Cut(s.nameOf(n), "/")
	out := Device{
		Tenant: tenant, Device: name, Received: e.received, Stored: e.stored,
		LastSeen: time.Unix(int64(e.seen), 0).UTC(), TokensLeft: -1,
	}
	if l := limits.Snapshot().OfDevice([]byte(tenant), []byte(name)); l.interval > 0 {
		tat := e.tat
		if e.rateID != l.rateID {
			tat = l.convert(e.rateID, tat, e.clock, max(e.clock, now))
		}
		out.TokensLeft, out.Limit = l.left(tat, max(e.clock, now)), &l.Rate
	}
	if e.rejects != 0 {
		out.Rejected = make(map[string]uint64)
		for r, n := range s.rejects[e.rejects-1].by {
			if n > 0 {
				out.Rejected[verdict.Reason(r).String()] = n
				out.rejected += n
			}
		}
	}
	return out
}

// Lookup returns the entry of a device, with its rate according to limits.
func (d *Budgets) Lookup(tenant, name string, limits *Live) (Device, bool) {
	hash := maphash.String(d.seed, tenant+"/"+name)
	s := d.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.find(hash)
	if !ok {
		return Device{}, false
	}
	return s.export(n, limits, time.Now().UnixNano()), true
}
