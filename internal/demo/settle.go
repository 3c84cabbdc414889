package demo

import (
	"context"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
)

// settleTimeout bounds the wait for the last messages after the devices have stopped.
const settleTimeout = 10 * time.Second

// settle waits until all acknowledged messages have passed through the bridge, and returns the
// account. Messages that are late are missing in the account.
func settle(ctx context.Context, r *rig, f *crew, provoked []verdict.Reason) *account {
	a := &account{Fleet: f.tally(), Quarantine: r.streams[len(r.streams)-1], Provoked: provoked}
	deadline := time.After(settleTimeout)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for waiting := true; waiting; {
		// The user may still be publishing, so both counts are read in the same iteration.
		a.Visits, a.Bridge = r.visits.Load(), r.bridge.Totals()
		if delivered(&a.Bridge) == a.Fleet.Acked+a.Visits && a.Bridge.InFlight == 0 {
			break
		}
		select {
		case <-poll.C:
		case <-deadline:
			waiting = false
		}
	}
	var err error
	a.Streams, err = r.streamCounts(ctx)
	a.addError(err)
	if r.database != nil && err == nil {
		a.Written, err = r.database.settled(ctx, a.messagesIn(false), deadline)
		a.addError(err)
		a.Streams, err = r.streamCounts(ctx) // again, including messages that ingest quarantined
		a.addError(err)
	}
	a.addError(f.Err())
	a.BrokerDropped = r.broker.Dropped()
	return a
}

func (a *account) addError(err error) {
	if err != nil {
		a.Errors = append(a.Errors, err)
	}
}
