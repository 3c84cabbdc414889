package lease

import (
	"slices"
	"time"
)

// Status is what a coordinator knows at one moment.
type Status struct {
	// Replica is this one.
	Replica Replica
	TTL     time.Duration // 0: the store has not been reached yet
	// Problem is why the store cannot be reached, since Since; empty: it can.
	Problem string
	Since   time.Time
	// Unreached is why this replica, which leases nothing, is not given any: it cannot
	// reach the broker, since UnreachedSince. Nil: it can, or its lanes tell.
	Unreached      error
	UnreachedSince time.Time
	// Settled: the partitions have been shared out once.
	Settled  bool
	Replicas []Replica
	// Elsewhere are those of Replicas that connect to another broker: what they lease is
	// laneConnected by nobody here.
	Elsewhere  []Replica
	Partitions []PartitionStatus // of all partitions, in their order
	Acquired   uint64            // since the start, as are those below
	Released   uint64
	Lost       uint64
}

// PartitionStatus is who leases a partition.
type PartitionStatus struct {
	Partition string
	Owner     string // a replica's id; empty: nobody
	Host      string
	Since     time.Time // of this holder, or of nobody
	// Leaving: it is this replica's, and on its way to another.
	Leaving bool
}

// Leased is how many partitions this replica leases.
func (s Status) Leased() (n int) {
	for i := range s.Partitions {
		if s.Partitions[i].Owner == s.Replica.ID {
			n++
		}
	}
	return n
}

// Status returns the present state. Safe for concurrent use.
func (c *Coordinator) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// logElsewhere logs the replicas at another broker, once for each set of them.
func (c *Coordinator) logElsewhere(replicas []Replica) {
	var ids []string
	for i := range replicas {
		ids = append(ids, replicas[i].ID)
	}
	if slices.Equal(ids, c.elsewhere) {
		return
	}
	c.elsewhere = ids
	if len(replicas) > 0 {
		r := &replicas[0]
		c.opts.Log.Error().Str("component", "leases").Strs("replicas", ids).Str("host", r.Host).
			Str("broker", r.Broker).Str("own_broker", c.opts.Replica.Broker).
			Msg("replicas with this client id connect to another broker")
	}
}

// report publishes what the loop knows.
func (c *Coordinator) report(now time.Time) {
	s := Status{
		Replica: c.opts.Replica, TTL: c.ttl, Problem: c.problem, Since: c.problemSince, Settled: c.settled,
		Unreached: c.unreached, UnreachedSince: c.unreachedAt,
		Acquired: c.acquired, Released: c.released, Lost: c.lostCount,
		Partitions: make([]PartitionStatus, 0, len(c.opts.Partitions)),
	}
	s.Replica.Leaving, s.Replica.Connected = c.leaving, c.connected()
	if c.view != nil {
		s.Replicas = c.view.present(now)
		s.Elsewhere = c.view.elsewhere(c.opts.Replica.Broker, now)
		c.logElsewhere(s.Elsewhere)
	}
	for _, p := range c.opts.Partitions {
		ps := PartitionStatus{Partition: p}
		if l := c.leases[p]; l != nil {
			ps.Owner, ps.Host, ps.Since, ps.Leaving = c.opts.Replica.ID, c.opts.Replica.Host, l.since, l.phase == leaving
		} else if c.view != nil {
			if seen, free, _ := c.view.lease(p, now); !free {
				ps.Owner, ps.Host, ps.Since = seen.Owner, seen.Host, seen.Since
			}
		}
		if ps.Owner != "" {
			delete(c.idle, p)
		} else {
			if c.idle[p].IsZero() {
				c.idle[p] = now
			}
			ps.Since = c.idle[p]
		}
		s.Partitions = append(s.Partitions, ps)
	}
	c.mu.Lock()
	c.status = s
	c.mu.Unlock()
}
