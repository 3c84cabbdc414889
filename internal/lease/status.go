package lease

import (
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Status is a snapshot of a coordinator.
type Status struct {
	// Replica is this replica.
	Replica Replica
	TTL     time.Duration // 0: the bucket has never been reached
	// Err is the reason why the bucket cannot be reached, as of Since; nil: it can.
	Err   error
	Since time.Time
	// Unreached is the reason why this replica, which has no lanes, cannot reach the broker since
	// UnreachedSince and gets no share. nil: it can, or it has lanes.
	Unreached      error
	UnreachedSince time.Time
	// Settled means that the partitions have been assigned once.
	Settled  bool
	Replicas []Replica
	// Elsewhere lists the replicas that connect to another broker. This broker's messages in their
	// partitions are not consumed.
	Elsewhere  []Replica
	Partitions []PartitionStatus // all partitions, in order
	Acquired   uint64            // since the start, as all counts below
	Released   uint64
	Lost       uint64
}

// PartitionStatus is the lease of a partition.
type PartitionStatus struct {
	Partition string
	Owner     string // a replica's id; empty: not leased
	Host      string
	Since     time.Time // of this state
	// Leaving means that this replica is handing it over to another.
	Leaving bool
}

// Leased returns how many partitions this replica leases.
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

// report publishes the state of the loop.
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

// partition returns the lease of a partition.
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

// logElsewhere logs the replicas at another broker, once per change of the set.
func (c *Coordinator) logElsewhere(replicas []Replica) {
	if len(replicas) == 0 {
		return
	}
	var ids []string
	for i := range replicas {
		ids = append(ids, replicas[i].ID)
	}
	r := &replicas[0]
	c.problem(zerolog.ErrorLevel, &OtherBrokerError{*r, c.opts.Replica.Broker}).Strs("replicas", ids).Str("host", r.Host).
		Str("broker", r.Broker).Str("own_broker", c.opts.Replica.Broker).
		Msg("replicas with this client id connect to another broker")
}
