package leafnode

import (
	"context"
	"slices"
	"time"

	"mqtt-nats-bridge/jetstream/leaf"
)

// keepLimits frees space, and pauses the store where the oldest message is too old.
// Both may happen while messages are in flight to it, some of which it refuses and
// some of which it then stores: strict order (nats.strict_order) keeps the devices'.
func (n *Node) keepLimits(ctx context.Context) error {
	n.mu.Lock()
	v := n.view
	now := time.Now()
	limit := uint64(n.config.MaxBytes)
	guard := min(uint64(n.lanes)*laneRoom, limit/2)
	near := v.used+guard >= limit
	// What the hub was given and passed over does not wait, and would seem to forever
	// in a store that takes nothing after it.
	tooOld := n.config.MaxAge > 0 && slices.ContainsFunc(v.backlog, func(b leaf.Backlog) bool {
		return !b.Oldest.IsZero() && now.Sub(b.Oldest) > n.config.MaxAge && !v.given[b.Stream]
	})
	// After a power cut nothing is taken, for another reason.
	ahead := !n.node.Rebooted() && slices.ContainsFunc(v.backlog, leaf.Backlog.Ahead)
	n.health.behind.Set(when(ahead, errAhead))
	done := n.storedAtHub()
	if near {
		done = v.hub
	}
	purge := !ahead && len(done) > 0 && (near || now.Sub(n.purged) >= purgeEvery)
	paused, partlyPaused := n.paused, n.partlyPaused
	n.health.room.Set(when(v.used >= limit, errFull(n.config.MaxBytes)))
	n.mu.Unlock()

	if purge {
		if err := n.node.Purge(ctx, done); err != nil {
			return err
		}
		n.mu.Lock()
		n.purged = now
		n.mu.Unlock()
	}
	if ahead {
		if err := n.node.AdvanceEmpty(ctx, v.hub); err != nil {
			return err
		}
	}
	wanted := tooOld || ahead
	if wanted == paused && !partlyPaused {
		return nil
	}
	if err := n.node.Pause(ctx, wanted); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.partlyPaused = true
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused, n.partlyPaused = wanted, false
	n.health.young.Set(when(tooOld, errTooOld))
	return nil
}

// storedAtHub is what the hub had stored nats.leaf.keep before it last answered, and
// still had then: one that went back to an earlier state has not, and one that
// is silent may have gone back with its last word. nil: that is not known.
func (n *Node) storedAtHub() map[string]uint64 {
	first := 0
	for first < len(n.hubAcks) && n.hubAcks[len(n.hubAcks)-1].at.Sub(n.hubAcks[first].at) >= n.config.Keep {
		first++
	}
	if first == 0 {
		return nil
	}
	n.hubAcks = n.hubAcks[first-1:]
	done := map[string]uint64{}
	for stream, at := range n.hubAcks[0].hub {
		for _, later := range n.hubAcks[1:] {
			at = min(at, later.hub[stream])
		}
		done[stream] = min(at, n.view.hub[stream])
	}
	return done
}
