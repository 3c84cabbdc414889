package lease

import (
	"slices"
	"time"
)

// Status is what a coordinator knows at one moment.
type Status struct {
	// Replica is this one.
	Replica Replica
	TTL     time.Duration // 0: the bucket has not been reached yet
	// Problem is why the bucket cannot be reached, since Since; empty: it can.
	Problem string
	Since   time.Time
	// Unreached is why this replica, which leases nothing, is not given any: it cannot
	// reach the broker, since UnreachedSince. Nil: it can, or its lanes show it.
	Unreached      error
	UnreachedSince time.Time
	// Settled: the partitions have been shared out once.
	Settled  bool
	Replicas []Replica
	// Elsewhere are those of Replicas that connect to another broker: what they lease is
	// served by nobody here.
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
	Since     time.Time // of this owner, or of nobody
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
func (c *Coordinator) Status() Status { return *c.published.Load() }

// report publishes what the loop knows.
func (c *Coordinator) report(now time.Time) {
	last, s := c.published.Load(), c.status
	s.TTL = c.view.ttl
	s.Replica.Leaving, s.Replica.Connected = c.leaving != nil, c.connected()
	s.Replicas = c.view.present(now)
	s.Elsewhere = c.view.elsewhere(s.Replica.Broker, now)
	if last != nil && !sameReplicas(last.Elsewhere, s.Elsewhere) {
		c.logElsewhere(s.Elsewhere)
	}
	for i, p := range c.opts.Partitions {
		ps := c.partition(p, now)
		if ps.Owner == "" && last != nil && last.Partitions[i].Owner == "" {
			ps.Since = last.Partitions[i].Since
		}
		s.Partitions = append(s.Partitions, ps)
	}
	c.published.Store(&s)
}

// partition is who leases a partition.
func (c *Coordinator) partition(p string, now time.Time) PartitionStatus {
	if l := c.leases[p]; l != nil {
		return PartitionStatus{p, c.opts.Replica.ID, c.opts.Replica.Host, l.since, l.phase == draining}
	}
	if seen, _ := c.view.lease(p, now); seen.Owner != "" {
		return PartitionStatus{p, seen.Owner, seen.Host, seen.Since, false}
	}
	return PartitionStatus{Partition: p, Since: now}
}

func sameReplicas(a, b []Replica) bool {
	return slices.EqualFunc(a, b, func(a, b Replica) bool { return a.ID == b.ID })
}

// logElsewhere logs the replicas at another broker, once for each set of them.
func (c *Coordinator) logElsewhere(replicas []Replica) {
	if len(replicas) == 0 {
		return
	}
	var ids []string
	for i := range replicas {
		ids = append(ids, replicas[i].ID)
	}
	r := &replicas[0]
	c.opts.Log.Error().Str("component", "leases").Strs("replicas", ids).Str("host", r.Host).
		Str("broker", r.Broker).Str("own_broker", c.opts.Replica.Broker).
		Msg("replicas with this client id connect to another broker")
}
