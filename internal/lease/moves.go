package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rebalance hands over what is beyond this replica's share and takes what is free
// of it.
func (c *Coordinator) rebalance(ctx context.Context, now time.Time) {
	if c.leaving {
		for _, l := range c.leases {
			c.handOver(c.until, l)
		}
		return
	}
	owners := map[string]string{}
	for _, p := range c.opts.Partitions {
		if c.leases[p] != nil {
			owners[p] = c.opts.Replica.ID
		} else if seen, free, _ := c.view.lease(p, now); !free {
			owners[p] = seen.Owner
		}
	}
	members := c.view.members(now)
	if !c.view.knows(c.opts.Replica.ID, now) {
		return // what this replica said of itself has not come back yet
	}
	c.updateStandby(members, now)
	bounded, cancel := context.WithDeadline(ctx, now.Add(c.ttl/renewals))
	defer cancel()
	share := Assign(c.opts.Partitions, members, owners)
	var took []string
	for _, p := range c.opts.Partitions {
		own := share[p] == c.opts.Replica.ID
		switch l := c.leases[p]; {
		case l != nil && !own:
			c.handOver(ctx, l)
		case l == nil && own && owners[p] == "" && c.entries != nil && c.acquire(bounded, p, len(members), now):
			took = append(took, p)
		}
	}
	if !now.Before(c.graceUntil) {
		c.settled = true
	}
	if len(took) > 0 {
		c.opts.Log.Info().Strs("partitions", took).Int("held", len(c.leases)).Int("replicas", len(members)).Msg("partitions taken")
	}
}

// acquire acquires a free partition and opens its lane.
func (c *Coordinator) acquire(ctx context.Context, p string, members int, now time.Time) bool {
	seen, _, left := c.view.lease(p, now)
	switch {
	case left && members > 1, c.lapsed[p]:
	case now.Before(c.graceUntil), !left && now.Before(c.retryAt):
		return false
	}
	l := &Lease{coordinator: c, partition: p, since: time.Now().UTC().Truncate(time.Millisecond), session: seen.Session}
	switch err := c.write(ctx, l, seen.revision); {
	case errors.Is(err, ErrChanged):
		// Another was faster, which the watch will show; or the server has
		// not let it expire yet.
		if !left {
			c.retryAt = now.Add(retry)
		}
		return false
	case err != nil:
		c.failed(fmt.Errorf("take partition %s: %w", p, err))
		return false
	}
	delete(c.lapsed, p)
	c.leases[p] = l
	c.acquired++
	c.opts.Lanes.Open(p, l, seen.Session)
	return true
}

// handOver lets a lane run empty; the lease goes when it has.
func (c *Coordinator) handOver(ctx context.Context, l *Lease) {
	if l.phase != holding {
		return
	}
	l.phase = leaving
	l.session = l.session || c.opts.Lanes.Connected(l.partition)
	c.wait.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, c.opts.DrainTimeout)
		defer cancel()
		c.closed <- ending{l, c.opts.Lanes.Close(bounded, l.partition)}
	})
}

// lose closes the lane of a partition that is another's, or may be. What it has not
// acknowledged the broker gives to the other.
func (c *Coordinator) lose(l *Lease) {
	if l.phase != holding {
		return // its lane is closing already; the lease is not written any more
	}
	l.phase = losing
	c.lostCount++
	c.opts.Log.Warn().Str("component", "leases").Str("partition", l.partition).Str("why", l.why).Msg("a lease is lost; its lane is closed")
	c.wait.Go(func() {
		c.opts.Lanes.Abandon(l.partition)
		c.closed <- ending{l, 0}
	})
}

// end is told that a lane has been closed.
func (c *Coordinator) end(ctx context.Context, e ending) {
	l := e.lease
	delete(c.leases, l.partition)
	c.abandoned += e.abandoned
	if l.phase != leaving {
		return
	}
	c.released++
	c.opts.Log.Debug().Str("partition", l.partition).Msg("partition handed over")
	if c.entries == nil {
		return // out of reach: the lease expires
	}
	_, err := c.store(ctx, func(ctx context.Context) (uint64, error) {
		return c.opts.Store.Write(ctx, partitionKey(l.partition), encode(Record{
			Since: time.Now().UTC().Truncate(time.Millisecond), Session: l.session,
		}), l.revision)
	})
	if err != nil && !errors.Is(err, ErrChanged) {
		c.failed(fmt.Errorf("give back the lease of partition %s: %w", l.partition, err))
	}
}
