package lease

import (
	"slices"
	"time"
)

// Status is what a keeper knows at one moment.
type Status struct {
	// Replica is this one.
	Replica Replica
	TTL     time.Duration // 0: the store has not been reached yet
	// Problem is why the store cannot be reached, since Since; empty: it can.
	Problem string
	Since   time.Time
	// Unreached is why this replica, which holds nothing, is not given any: it cannot
	// reach the broker, since UnreachedSince. Nil: it can, or its lanes tell.
	Unreached      error
	UnreachedSince time.Time
	// Settled: the partitions have been shared out once.
	Settled  bool
	Replicas []Replica
	// Elsewhere are those of Replicas that connect to another broker: what they lease is
	// served by nobody here.
	Elsewhere  []Replica
	Partitions []PartitionStatus // of all partitions, in their order
	Taken      uint64            // since the start, as are those below
	HandedOver uint64
	Lost       uint64
}

// PartitionStatus is who holds a partition.
type PartitionStatus struct {
	Partition string
	Holder    string // a replica's id; empty: nobody
	Host      string
	Since     time.Time // of this holder, or of nobody
	// Leaving: it is this replica's, and on its way to another.
	Leaving bool
}

// Held is how many partitions this replica holds.
func (s Status) Held() (n int) {
	for i := range s.Partitions {
		if s.Partitions[i].Holder == s.Replica.ID {
			n++
		}
	}
	return n
}

// Status returns the present state. Safe for concurrent use.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// logElsewhere logs the replicas at another broker, once for each set of them.
func (k *Keeper) logElsewhere(replicas []Replica) {
	var ids []string
	for i := range replicas {
		ids = append(ids, replicas[i].ID)
	}
	if slices.Equal(ids, k.elsewhere) {
		return
	}
	k.elsewhere = ids
	if len(replicas) > 0 {
		r := &replicas[0]
		k.opts.Log.Error().Str("component", "leases").Strs("replicas", ids).Str("host", r.Host).
			Str("broker", r.Broker).Str("own_broker", k.opts.Replica.Broker).
			Msg("replicas with this client id connect to another broker")
	}
}

// report publishes what the loop knows.
func (k *Keeper) report(now time.Time) {
	s := Status{
		Replica: k.opts.Replica, TTL: k.ttl, Problem: k.problem, Since: k.problemSince, Settled: k.settled,
		Unreached: k.unreached, UnreachedSince: k.unreachedAt,
		Taken: k.taken, HandedOver: k.handedOver, Lost: k.lostCount,
		Partitions: make([]PartitionStatus, 0, len(k.opts.Partitions)),
	}
	s.Replica.Leaving, s.Replica.Connected = k.leaving, k.connected()
	if k.view != nil {
		s.Replicas = k.view.present(now)
		s.Elsewhere = k.view.elsewhere(k.opts.Replica.Broker, now)
		k.logElsewhere(s.Elsewhere)
	}
	for _, p := range k.opts.Partitions {
		ps := PartitionStatus{Partition: p}
		if h := k.holds[p]; h != nil {
			ps.Holder, ps.Host, ps.Since, ps.Leaving = k.opts.Replica.ID, k.opts.Replica.Host, h.since, h.phase == leaving
		} else if k.view != nil {
			if l, free, _ := k.view.lease(p, now); !free {
				ps.Holder, ps.Host, ps.Since = l.Holder, l.Host, l.Since
			}
		}
		if ps.Holder != "" {
			delete(k.idle, p)
		} else {
			if k.idle[p].IsZero() {
				k.idle[p] = now
			}
			ps.Since = k.idle[p]
		}
		s.Partitions = append(s.Partitions, ps)
	}
	k.mu.Lock()
	k.status = s
	k.mu.Unlock()
}
