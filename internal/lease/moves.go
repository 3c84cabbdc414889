package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// shareOut hands over what is beyond this replica's share and takes what is free
// of it.
func (k *Keeper) shareOut(ctx context.Context, now time.Time) {
	if k.leaving {
		for _, h := range k.holds {
			k.handOver(k.until, h)
		}
		return
	}
	holders := map[string]string{}
	for _, p := range k.opts.Partitions {
		if k.holds[p] != nil {
			holders[p] = k.opts.Replica.ID
		} else if l, free, _ := k.view.lease(p, now); !free {
			holders[p] = l.Holder
		}
	}
	members := k.view.members(now)
	if !k.view.knows(k.opts.Replica.ID, now) {
		return // what this replica said of itself has not come back yet
	}
	k.stepOutOrIn(members, now)
	bounded, cancel := context.WithDeadline(ctx, now.Add(k.ttl/renewals))
	defer cancel()
	share := Share(k.opts.Partitions, members, holders)
	var took []string
	for _, p := range k.opts.Partitions {
		own := share[p] == k.opts.Replica.ID
		switch h := k.holds[p]; {
		case h != nil && !own:
			k.handOver(ctx, h)
		case h == nil && own && holders[p] == "" && k.entries != nil && k.take(bounded, p, len(members), now):
			took = append(took, p)
		}
	}
	if !now.Before(k.quietUntil) {
		k.settled = true
	}
	if len(took) > 0 {
		k.opts.Log.Info().Strs("partitions", took).Int("held", len(k.holds)).Int("replicas", len(members)).Msg("partitions taken")
	}
}

// take takes a free partition and opens its lane.
func (k *Keeper) take(ctx context.Context, p string, members int, now time.Time) bool {
	l, _, left := k.view.lease(p, now)
	switch {
	case left && members > 1, k.mine[p]:
	case now.Before(k.quietUntil), !left && now.Before(k.retryAt):
		return false
	}
	h := &Hold{keeper: k, partition: p, since: time.Now().UTC().Truncate(time.Millisecond), session: l.Session}
	switch err := k.write(ctx, h, l.revision); {
	case errors.Is(err, ErrChanged):
		// Another was faster, which the watch will show; or the server has
		// not let it expire yet.
		if !left {
			k.retryAt = now.Add(retry)
		}
		return false
	case err != nil:
		k.failed(fmt.Errorf("take partition %s: %w", p, err))
		return false
	}
	delete(k.mine, p)
	k.holds[p] = h
	k.taken++
	k.opts.Lanes.Open(p, h, l.Session)
	return true
}

// handOver lets a lane run empty; the lease goes when it has.
func (k *Keeper) handOver(ctx context.Context, h *Hold) {
	if h.phase != holding {
		return
	}
	h.phase = leaving
	h.session = h.session || k.opts.Lanes.Connected(h.partition)
	k.wait.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, k.opts.HandOver)
		defer cancel()
		k.ended <- ending{h, k.opts.Lanes.Close(bounded, h.partition)}
	})
}

// lose closes the lane of a partition that is another's, or may be. What it has not
// acknowledged the broker gives to the other.
func (k *Keeper) lose(h *Hold) {
	if h.phase != holding {
		return // its lane is closing already; the lease is not written any more
	}
	h.phase = losing
	k.lostCount++
	k.opts.Log.Warn().Str("component", "leases").Str("partition", h.partition).Str("why", h.why).Msg("a lease is lost; its lane is closed")
	k.wait.Go(func() {
		k.opts.Lanes.Abandon(h.partition)
		k.ended <- ending{h, 0}
	})
}

// end is told that a lane has been closed.
func (k *Keeper) end(ctx context.Context, e ending) {
	h := e.hold
	delete(k.holds, h.partition)
	k.abandoned += e.abandoned
	if h.phase != leaving {
		return
	}
	k.handedOver++
	k.opts.Log.Debug().Str("partition", h.partition).Msg("partition handed over")
	if k.entries == nil {
		return // out of reach: the lease expires
	}
	_, err := k.store(ctx, func(ctx context.Context) (uint64, error) {
		return k.opts.Store.Write(ctx, partitionKey(h.partition), encode(Record{
			Since: time.Now().UTC().Truncate(time.Millisecond), Session: h.session,
		}), h.revision)
	})
	if err != nil && !errors.Is(err, ErrChanged) {
		k.failed(fmt.Errorf("give back the lease of partition %s: %w", h.partition, err))
	}
}
