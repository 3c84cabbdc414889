package demo

import (
	"context"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
)

// settling bounds the wait for the last messages, once the devices have stopped.
const settling = 10 * time.Second

// settle waits until everything that was acknowledged to a device has gone
// through the bridge and draws up the account. What did not come in time shows
// there.
func settle(ctx context.Context, r *rig, f *crew, provoked []verdict.Reason) *account {
	a := &account{Fleet: f.tally(), Quarantine: r.streams[len(r.streams)-1], Provoked: provoked}
	deadline := time.After(settling)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for waiting := true; waiting; {
		// The visitor may still be publishing: both counts are of one round.
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
	a.fault(err)
	if r.database != nil && err == nil {
		a.Written, err = r.database.settled(ctx, a.messagesIn(false), deadline)
		a.fault(err)
		a.Streams, err = r.streamCounts(ctx) // with what ingest put into quarantine
		a.fault(err)
	}
	a.fault(f.Err())
	a.BrokerDropped = r.broker.Dropped()
	return a
}

func (a *account) fault(err error) {
	if err != nil {
		a.Faults = append(a.Faults, err)
	}
}
