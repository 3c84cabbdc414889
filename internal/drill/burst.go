package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/sleep"
)

// burst is a device that reconnects after an outage and publishes many queued messages.
type burst struct {
	d      *drill
	device *fleet.Device
	acked  chan struct{} // signals a PUBACK; capacity 1
	err    error
}

var errNotRun = errors.New("the drill ended before the burst began")

func newBurst(d *drill) *burst {
	b := &burst{d: d, acked: make(chan struct{}, 1), err: errNotRun}
	o := d.accounted(d.o.device(d.crew.burst, "drill-"+d.run+"-burst"), len(d.crew.fleet), d.crew.burst)
	o.Count = d.o.Burst
	next := o.Acked
	o.Acked = func(n int) {
		next(n)
		select {
		case b.acked <- struct{}{}:
		default:
		}
	}
	b.device = fleet.New(o)
	return b
}

// act continues after the end of the drill while PUBACKs arrive, because a broker with a rate limit
// may take longer than the drill.
func (b *burst) act(ctx context.Context) {
	if !sleep.For(ctx, b.d.o.lead) {
		return
	}
	// The device is offline. Run connects it, and retries if the broker refuses it.
	defer b.device.Disconnect()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.device.Run(running) }()
	quiet := time.NewTimer(b.d.o.Settle)
	defer quiet.Stop()
	for {
		select {
		case <-b.acked:
			quiet.Reset(b.d.o.Settle)
		case <-quiet.C:
			cancel() // Run may still take up to the device's Drain
		case b.err = <-ended:
			return
		}
	}
}

func (b *burst) outcome() Expectation {
	n := b.d.o.Burst
	stored, quarantined, missing := b.d.ledger.Device(len(b.d.crew.fleet))
	e := Expectation{
		Name:     "burst",
		Expected: fmt.Sprintf("%s of one device, up to %d in flight: all stored, none rejected", plural(n, "message"), b.d.o.Window),
		Seen:     fmt.Sprintf("%d acknowledged, %d stored, %d rejected, %d lost", b.device.Acked(), stored, quarantined, missing),
		OK:       b.err == nil && int(b.device.Acked()) == n && stored >= n && quarantined == 0 && missing == 0,
	}
	if b.err != nil {
		e.Seen += "; " + b.err.Error()
	}
	return e
}
