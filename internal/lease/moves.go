package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// rebalance hands over partitions beyond this replica's share and acquires the free ones of its
// share.
func (c *Coordinator) rebalance(ctx context.Context, now time.Time) {
	self := c.opts.Replica.ID
	if !c.view.knows(self, now) {
		return // its announcement has not been observed yet
	}
	owners := map[string]string{}
	for _, p := range c.opts.Partitions {
		if c.leases[p] != nil {
			owners[p] = self
		} else if seen, _ := c.view.lease(p, now); seen.Owner != "" {
			owners[p] = seen.Owner
		}
	}
	members := c.view.members(now)
	c.updateStandby(slices.Contains(members, self), now)
	bounded, cancel := context.WithDeadline(ctx, now.Add(c.view.ttl/renewDivisor))
	defer cancel()
	share := Assign(c.opts.Partitions, members, owners)
	var acquired []string
	for _, p := range c.opts.Partitions {
		switch l := c.leases[p]; {
		case l != nil && share[p] != self:
			c.handOver(ctx, l)
		case l == nil && share[p] == self && owners[p] == "" && c.entries != nil && c.acquire(bounded, p, len(members), now):
			acquired = append(acquired, p)
		}
	}
	if !now.Before(c.view.graceUntil) {
		c.status.Settled = true
	}
	if len(acquired) > 0 {
		c.opts.Log.Info().Strs("partitions", acquired).Int("leased", len(c.leases)).Int("replicas", len(members)).Msg("partitions acquired")
	}
}

// acquire acquires the lease of a free partition and opens its lane.
func (c *Coordinator) acquire(ctx context.Context, p string, members int, now time.Time) bool {
	seen, released := c.view.lease(p, now)
	switch {
	case released && members > 1, c.lapsed[p]:
	case now.Before(c.view.graceUntil), !released && now.Before(c.retryAt):
		return false
	}
	l := &Lease{coordinator: c, partition: p, since: time.Now().UTC().Truncate(time.Millisecond), session: seen.Session}
	switch err := c.write(ctx, l, c.record(l), seen.revision); {
	case errors.Is(err, ErrChanged):
		// Another replica was faster, which the bucket will show. Or the server has not expired the
		// lease yet.
		if !released {
			c.retryAt = now.Add(retry)
		}
		return false
	case err != nil:
		c.failed(fmt.Errorf("acquire partition %s: %w", p, err))
		return false
	}
	delete(c.lapsed, p)
	c.leases[p] = l
	c.status.Acquired++
	c.opts.Lanes.Open(p, l, seen.Session)
	return true
}

// handOver drains a lane; the lease is released afterwards.
func (c *Coordinator) handOver(ctx context.Context, l *Lease) {
	if l.phase != leased {
		return
	}
	l.session = l.session || c.opts.Lanes.Connected(l.partition)
	c.closeLane(l, draining, func() int {
		bounded, cancel := context.WithTimeout(ctx, c.opts.DrainTimeout)
		defer cancel()
		return c.opts.Lanes.Close(bounded, l.partition)
	})
}

// lose closes the lane of a partition that another replica has, or may have. The broker redelivers
// unacknowledged messages to the new owner.
func (c *Coordinator) lose(l *Lease, why lostError) {
	if l.phase != leased {
		return // its lane is closing already; the lease is no longer written
	}
	c.status.Lost++
	c.opts.Log.Warn().Str("component", "leases").Str("partition", l.partition).Str("why", string(why)).Msg("lease lost, closing its lane")
	c.closeLane(l, losing, func() int {
		c.opts.Lanes.Abandon(l.partition)
		return 0
	})
}

func (c *Coordinator) closeLane(l *Lease, phase phase, closing func() (abandoned int)) {
	l.phase = phase
	c.wait.Go(func() {
		abandoned := closing()
		c.events <- func(ctx context.Context) {
			c.abandoned += abandoned
			c.laneClosed(ctx, l)
		}
	})
}

// laneClosed releases the lease of a drained lane.
func (c *Coordinator) laneClosed(ctx context.Context, l *Lease) {
	delete(c.leases, l.partition)
	if l.phase != draining {
		return
	}
	c.status.Released++
	c.opts.Log.Debug().Str("partition", l.partition).Msg("partition released")
	if c.entries == nil {
		return // unreachable: the lease expires
	}
	err := c.write(ctx, l, Record{Since: time.Now().UTC().Truncate(time.Millisecond), Session: l.session}, l.revision)
	if err != nil && !errors.Is(err, ErrChanged) {
		c.failed(fmt.Errorf("release the lease of partition %s: %w", l.partition, err))
	}
}
