package lease

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// view is the state of the bucket as observed since it was opened. The server does not report the
// expiry of a key, so the view counts from when it observed the write. It never assumes an expiry
// too early.
type view struct {
	ttl        time.Duration // lifetime of a key; 0: the bucket has not been opened yet
	graceUntil time.Time     // until then only released leases are acquired
	listing    bool          // the existing keys are still arriving
	replicas   map[string]seenReplica
	leases     map[string]seenLease // by partition
}

type seenReplica struct {
	Replica
	at time.Time
	// turned is when the present value of Connected was first observed. ever means that it was true
	// at least once.
	turned time.Time
	ever   bool
}

// next returns the replica updated with its next record.
func (r seenReplica) next(says Replica, now time.Time) seenReplica {
	n := seenReplica{Replica: says, at: now, turned: r.turned, ever: r.ever || says.Connected}
	if r.ID == "" || says.Connected != r.Connected {
		n.turned = now
	}
	return n
}

// A replica that has not reached the broker for disconnectedAfter loses its share to replicas that
// have reached it for trustedAfter. After an outage of the broker all lanes reconnect within
// trustedAfter: a session waits at most 22.5 s between attempts, and each takes at most 10 s. With
// a long TTL both times are longer, because a replica's record may be a third of the TTL old.
const (
	disconnectedAfter = 15 * time.Second
	trustedAfter      = 45 * time.Second
)

func (r *seenReplica) disconnected(now time.Time, ttl time.Duration) bool {
	return !r.Connected && (!r.ever || now.Sub(r.turned) >= max(disconnectedAfter, ttl))
}

func (r *seenReplica) trusted(now time.Time, ttl time.Duration) bool {
	return r.Connected && now.Sub(r.turned) >= max(trustedAfter, 2*ttl)
}

type seenLease struct {
	Record
	revision uint64
	at       time.Time
}

// newView returns a view without leases. Observations of replicas remain valid until they are a TTL
// old.
func newView(ttl time.Duration, graceUntil time.Time, replicas map[string]seenReplica) *view {
	return &view{ttl: ttl, graceUntil: graceUntil, listing: true, replicas: replicas, leases: map[string]seenLease{}}
}

// apply processes an entry. It skips invalid entries, such as a key deleted by hand.
func (v *view) apply(e Entry, now time.Time) {
	if e.Listed {
		v.listing = false
		return
	}
	if id, ok := strings.CutPrefix(e.Key, replicaKey); ok {
		var r Replica
		if json.Unmarshal(e.Value, &r) != nil || r.ID != id || id == "" {
			delete(v.replicas, id)
			return
		}
		before := v.replicas[id]
		if now.Sub(before.at) >= v.ttl {
			before = seenReplica{}
		}
		v.replicas[id] = before.next(r, now)
		return
	}
	p, ok := partitionOf(e.Key)
	if !ok || e.Revision < v.leases[p].revision {
		return
	}
	l := seenLease{revision: e.Revision, at: now}
	if json.Unmarshal(e.Value, &l.Record) != nil {
		l.Record = Record{}
	}
	v.leases[p] = l
}

// alive returns the replicas observed within the TTL, by id.
func (v *view) alive(now time.Time) []seenReplica {
	var all []seenReplica
	for _, id := range slices.Sorted(maps.Keys(v.replicas)) {
		if v.knows(id, now) {
			all = append(all, v.replicas[id])
		}
	}
	return all
}

// members returns the replicas that may get partitions. A replica that cannot reach the broker is
// excluded as long as another one has reached it for a while. If no replica reaches the broker,
// every replica keeps its share, and a replica on standby gets none.
func (v *view) members(now time.Time) []string {
	var all, in, connected []string
	trusted := false
	for _, r := range v.alive(now) {
		if r.Leaving {
			continue
		}
		all = append(all, r.ID)
		if r.Standby {
			continue
		}
		in = append(in, r.ID)
		trusted = trusted || r.trusted(now, v.ttl)
		if !r.disconnected(now, v.ttl) {
			connected = append(connected, r.ID)
		}
	}
	switch {
	case trusted:
		return connected
	case len(in) > 0:
		return in
	}
	return all
}

// knows reports whether a replica was observed within the TTL.
func (v *view) knows(id string, now time.Time) bool {
	r, ok := v.replicas[id]
	return ok && now.Sub(r.at) < v.ttl
}

// reachedByAnother reports whether a replica other than id reaches the broker, or did a moment ago.
func (v *view) reachedByAnother(id string, now time.Time) bool {
	return slices.ContainsFunc(v.alive(now), func(r seenReplica) bool {
		return r.ID != id && !r.Leaving && !r.disconnected(now, v.ttl)
	})
}

// present returns all replicas observed within the TTL, by id.
func (v *view) present(now time.Time) []Replica {
	var all []Replica
	for _, r := range v.alive(now) {
		all = append(all, r.Replica)
	}
	return all
}

// elsewhere returns the present replicas whose lanes connect to another broker.
func (v *view) elsewhere(broker string, now time.Time) []Replica {
	return slices.DeleteFunc(v.present(now), func(r Replica) bool {
		return r.Leaving || r.Broker == "" || broker == "" || SameBroker(r.Broker, broker)
	})
}

// SameBroker reports whether two lists of addresses have one in common.
func SameBroker(a, b string) bool {
	others := strings.Split(b, ",")
	return slices.ContainsFunc(strings.Split(a, ","), func(address string) bool { return slices.Contains(others, address) })
}

// lease returns the present record of a partition, without an owner if the partition is free, and
// the revision to write over. released means that its last owner has released it.
func (v *view) lease(p string, now time.Time) (l seenLease, released bool) {
	l = v.leases[p]
	if l.revision == 0 || now.Sub(l.at) >= v.ttl {
		// The last record still shows whether the broker has a session.
		return seenLease{Record: Record{Session: l.Session}}, false
	}
	return l, l.Owner == ""
}

// nextExpiry returns when the next key of another replica expires unless it is renewed; zero: there
// is none.
func (v *view) nextExpiry(now time.Time) time.Time {
	var next time.Time
	note := func(at time.Time) {
		if end := at.Add(v.ttl); end.After(now) && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	for _, r := range v.replicas {
		note(r.at)
	}
	for _, l := range v.leases {
		note(l.at)
	}
	return next
}
