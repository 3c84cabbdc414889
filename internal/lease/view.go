package lease

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// view is what the watch has shown of the store. The server does not say when a
// key expires, so the view counts from the moment it saw the key written, which is
// never too early.
type view struct {
	ttl      time.Duration
	listing  bool // what was there is still coming in
	latest   uint64
	replicas map[string]seenReplica
	leases   map[string]seenLease // by partition
}

type seenReplica struct {
	Replica
	at time.Time
}

type seenLease struct {
	Record
	revision uint64
	at       time.Time
}

func newView(ttl time.Duration) *view {
	return &view{ttl: ttl, listing: true, replicas: map[string]seenReplica{}, leases: map[string]seenLease{}}
}

// apply takes an entry in. What nobody could have written is passed over, like a
// key deleted by hand.
func (v *view) apply(e Entry, now time.Time) {
	if e.Listed {
		v.listing = false
		return
	}
	v.latest = max(v.latest, e.Revision)
	if id, ok := strings.CutPrefix(e.Key, replicaKey); ok {
		r := seenReplica{at: now}
		if json.Unmarshal(e.Value, &r.Replica) != nil || r.ID != id || id == "" {
			delete(v.replicas, id)
			return
		}
		v.replicas[id] = r
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

// members are the replicas that may be given partitions.
func (v *view) members(now time.Time) []string {
	var ids []string
	for id, r := range v.replicas {
		if now.Sub(r.at) < v.ttl && !r.Leaving {
			ids = append(ids, id)
		}
	}
	return ids
}

// present are all replicas that have been heard of lately, by id.
func (v *view) present(now time.Time) []Replica {
	var all []Replica
	for _, id := range slices.Sorted(maps.Keys(v.replicas)) {
		if r := v.replicas[id]; now.Sub(r.at) < v.ttl {
			all = append(all, r.Replica)
		}
	}
	return all
}

// lease is what is known of a partition: the record that stands, zero where there
// is none, and the revision to write over. free: nobody holds it. left: its last
// holder has said so.
func (v *view) lease(p string, now time.Time) (l seenLease, free, left bool) {
	l = v.leases[p]
	if l.revision == 0 || now.Sub(l.at) >= v.ttl {
		// What it last said is still worth knowing.
		return seenLease{Record: Record{Session: l.Session}}, true, false
	}
	return l, l.Holder == "", l.Holder == ""
}

// nextExpiry is when the next key of another replica expires unless it is renewed;
// zero: none will.
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
