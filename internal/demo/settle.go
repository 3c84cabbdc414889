package demo

import (
	"context"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/sleep"
)

// settleTimeout bounds the wait for the last messages after the devices have stopped.
const settleTimeout = 10 * time.Second

// settle waits until all acknowledged messages have passed through the bridge, and returns the
// account. Messages that are late are missing in the account.
func settle(ctx context.Context, r *rig, f *crew, provoked []verdict.Reason) *account {
	a := &account{Fleet: f.tally(), Quarantine: r.streams[len(r.streams)-1], Provoked: provoked}
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		// The user may still be publishing, so both counts are read in the same iteration.
		a.Visits, a.Bridge = r.visits.Load(), r.bridge.Totals()
		settled := delivered(&a.Bridge) == a.Fleet.Acked+a.Visits && a.Bridge.InFlight == 0
		if settled || !sleep.For(settling, 10*time.Millisecond) {
			break
		}
	}
	var err error
	a.Streams, err = r.streamCounts(ctx)
	a.addError(err)
	if r.database != nil && err == nil {
		r.database.settle(settling, a.messagesIn(false))
		a.Written, err = r.database.count(ctx)
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
