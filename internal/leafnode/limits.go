package leafnode

import (
	"context"
	"slices"
	"time"

	"mqtt-nats-bridge/jetstream/leaf"
)

// enforceLimits frees space, and pauses the store if the oldest message is too old. Both can happen
// while messages are in flight to the store, which may refuse some and store later ones. Strict order
// (nats.strict_order) keeps each device's messages in order.
func (n *Node) enforceLimits(ctx context.Context) error {
	v := &n.view
	now := time.Now()
	limit := uint64(n.config.MaxBytes)
	reserve := min(uint64(n.lanes)*laneReserve, limit/2)
	nearlyFull := v.used+reserve >= limit
	// Messages that the hub received and skipped are not waiting. In a paused store they would
	// otherwise seem to wait forever.
	tooOld := n.config.MaxAge > 0 && slices.ContainsFunc(v.backlog, func(b leaf.Backlog) bool {
		return !b.Oldest.IsZero() && now.Sub(b.Oldest) > n.config.MaxAge && !v.upToDate[b.Stream]
	})
	// After a power cut, the store is paused for another reason.
	ahead := !n.node.Rebooted() && slices.ContainsFunc(v.backlog, leaf.Backlog.Ahead)
	n.health.ahead.Set(errIf(ahead, errAhead))
	safe := n.safeToPurge()
	if nearlyFull {
		safe = v.hub
	}
	n.health.full.Set(errIf(v.used >= limit, errFull(n.config.MaxBytes)))

	if !ahead && len(safe) > 0 && (nearlyFull || now.Sub(n.purgedAt) >= purgeEvery) {
		if err := n.node.Purge(ctx, safe); err != nil {
			return err
		}
		n.purgedAt = now
	}
	if ahead {
		if err := n.node.AdvanceEmpty(ctx, v.hub); err != nil {
			return err
		}
	}
	pause := tooOld || ahead
	if pause == n.paused && !n.partlyPaused {
		return nil
	}
	if err := n.node.Pause(ctx, pause); err != nil {
		n.partlyPaused = true
		return err
	}
	n.paused, n.partlyPaused = pause, false
	n.health.tooOld.Set(errIf(tooOld, errTooOld))
	return nil
}

// safeToPurge returns the positions that the hub had reached nats.leaf.keep before its last answer, and
// never fell below since. A hub that lost messages reports lower positions. A hub that no longer
// answers may have lost messages after its last answer. nil: not known yet.
func (n *Node) safeToPurge() map[string]uint64 {
	first := 0
	for first < len(n.hubAcks) && n.hubAcks[len(n.hubAcks)-1].at.Sub(n.hubAcks[first].at) >= n.config.Keep {
		first++
	}
	if first == 0 {
		return nil
	}
	n.hubAcks = n.hubAcks[first-1:]
	safe := map[string]uint64{}
	for stream, sequence := range n.hubAcks[0].hub {
		for _, later := range n.hubAcks[1:] {
			sequence = min(sequence, later.hub[stream])
		}
		safe[stream] = min(sequence, n.view.hub[stream])
	}
	return safe
}
