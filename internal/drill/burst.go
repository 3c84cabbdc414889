package drill

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/fleet"
)

// burst is a device that comes back from an outage with many messages.
type burst struct {
	d      *drill
	device *fleet.Device
	err    error
}

func newBurst(d *drill) *burst {
	o := d.accounted(d.o.device(d.crew.burst, "drill-"+d.run+"-burst"), len(d.crew.fleet), d.crew.burst)
	o.Count = d.o.Burst
	return &burst{d: d, device: fleet.New(o)}
}

func (b *burst) act(ctx context.Context) {
	if !pause(ctx, b.d.o.lead) {
		return
	}
	if b.err = b.device.Connect(ctx); b.err != nil {
		return
	}
	b.err = b.device.Run(ctx)
	b.device.Disconnect()
}

func (b *burst) outcome() Expectation {
	n := b.d.o.Burst
	stored, quarantined, missing := b.d.ledger.Device(len(b.d.crew.fleet))
	e := Expectation{
		Name:     "burst",
		Expected: fmt.Sprintf("%s of one device, %d in flight: all stored, none rejected", plural(n, "message"), b.d.o.Window),
		Seen:     fmt.Sprintf("%d acknowledged, %d stored, %d rejected, %d lost", b.device.Acked(), stored, quarantined, missing),
		OK:       b.err == nil && int(b.device.Acked()) == n && stored >= n && quarantined == 0 && missing == 0,
	}
	if b.err != nil {
		e.Seen += "; " + b.err.Error()
	}
	return e
}
