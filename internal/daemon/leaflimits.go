package daemon

import (
	"context"
	"slices"
	"time"

	"mqtt-nats-bridge/jetstream/leaf"
)

// keepLimits makes room, and shuts the store where the oldest message is too old.
// Both may happen while messages are in flight to it, some of which it refuses and
// some of which it then stores: strict order (nats.strict_order) keeps the devices'.
func (u *leafUnit) keepLimits(ctx context.Context) error {
	u.mu.Lock()
	v := u.view
	now := time.Now()
	limit := uint64(u.config.MaxBytes)
	guard := min(uint64(u.lanes)*leafGuard, limit/2)
	near := v.used+guard >= limit
	// What the hub was given and passed over does not wait, and would seem to forever
	// in a store that takes nothing after it.
	tooOld := u.config.MaxAge > 0 && slices.ContainsFunc(v.backlog, func(b leaf.Backlog) bool {
		return !b.Oldest.IsZero() && now.Sub(b.Oldest) > u.config.MaxAge && !v.given[b.Stream]
	})
	// After a power cut nothing is taken, for another reason.
	ahead := !u.node.Rebooted() && slices.ContainsFunc(v.backlog, leaf.Backlog.Ahead)
	u.health.behind.Set(when(ahead, errAhead))
	done := u.kept()
	if near {
		done = v.hub
	}
	purge := !ahead && len(done) > 0 && (near || now.Sub(u.purged) >= leafPurge)
	shut, ajar := u.shut, u.ajar
	u.health.room.Set(when(v.used >= limit, errFull(u.config.MaxBytes)))
	u.mu.Unlock()

	if purge {
		if err := u.node.Purge(ctx, done); err != nil {
			return err
		}
		u.mu.Lock()
		u.purged = now
		u.mu.Unlock()
	}
	if ahead {
		if err := u.node.MoveOn(ctx, v.hub); err != nil {
			return err
		}
	}
	wanted := tooOld || ahead
	if wanted == shut && !ajar {
		return nil
	}
	if err := u.node.Pause(ctx, wanted); err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.ajar = true
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shut, u.ajar = wanted, false
	u.health.young.Set(when(tooOld, errTooOld))
	return nil
}

// kept is what the hub had stored already nats.leaf.keep before it was last heard, and
// had still when it was: one that went back to an earlier state has not, and one that
// is silent may have gone back with its last word. nil: that is not known.
func (u *leafUnit) kept() map[string]uint64 {
	n := 0
	for n < len(u.heard) && u.heard[len(u.heard)-1].at.Sub(u.heard[n].at) >= u.config.Keep {
		n++
	}
	if n == 0 {
		return nil
	}
	u.heard = u.heard[n-1:]
	done := map[string]uint64{}
	for stream, at := range u.heard[0].hub {
		for _, later := range u.heard[1:] {
			at = min(at, later.hub[stream])
		}
		done[stream] = min(at, u.view.hub[stream])
	}
	return done
}
