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
	u.mark(&u.view.ahead, ahead, "the hub claims to have stored more than there is here: nothing is taken and nothing removed", now)
	done := u.kept()
	if near {
		done = v.hub
	}
	purge := !ahead && len(done) > 0 && (near || now.Sub(u.purged) >= leafPurge)
	shut, ajar := u.shut, u.ajar
	u.mark(&u.view.full, v.used >= limit, "the local store is full: nothing is taken, the broker holds what comes", now)
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
	u.mark(&u.view.old, tooOld, "the oldest message that waits for the hub is over nats.leaf.max_age: nothing is taken, the broker holds what comes", now)
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

// mark notes since when a limit is reached, and logs its beginning and its end.
func (u *leafUnit) mark(since *time.Time, is bool, message string, now time.Time) {
	switch {
	case is && since.IsZero():
		*since = now
		u.log.Error().Str("component", "leaf").Uint64("used_bytes", u.view.used).Msg(message)
	case !is && !since.IsZero():
		u.log.Info().Int64("after_ms", now.Sub(*since).Milliseconds()).Msg("the local store takes messages again")
		*since = time.Time{}
	}
}
