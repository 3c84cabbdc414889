package drill

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/wire"
)

// willDevices is the number of devices with a last will that lose their power.
const willDevices = 3

// will simulates devices with a last will that disconnect without a DISCONNECT.
type will struct {
	d      *drill
	killed int
	err    error
}

// willDevice returns the name of a device in the payload. The devices share a certificate.
func willDevice(i int) string { return fmt.Sprintf("will-%d", i+1) }

func (w *will) act(ctx context.Context) {
	if !sleep.For(ctx, w.d.o.lead) {
		return
	}
	ctx = context.WithoutCancel(ctx) // complete all devices, even on a slow machine
	for i := range willDevices {
		o := w.d.o.device(w.d.crew.other, fmt.Sprintf("drill-%s-%s", w.d.run, willDevice(i)))
		o.Connect.Will = &wire.Will{
			Topic: w.d.o.topic(w.d.crew.other), Payload: mark{w.d.run, roleWill, willDevice(i), 0}.payload(0),
		}
		device := fleet.New(o)
		if w.err = device.Connect(ctx); w.err != nil {
			return
		}
		device.Kill()
		w.killed++
	}
}

// missing returns the number of wills that have not been stored yet.
func (w *will) missing() int {
	w.d.in.mu.Lock()
	defer w.d.in.mu.Unlock()
	return w.killed - len(w.d.in.wills)
}

func (w *will) outcome() Expectation {
	w.d.in.mu.Lock()
	defer w.d.in.mu.Unlock()
	stored, once := 0, true
	for _, n := range w.d.in.wills {
		stored += n
		once = once && n == 1
	}
	e := Expectation{
		Name:     "will",
		Expected: fmt.Sprintf("the wills of %d devices that lose their power are stored once each", willDevices),
		Seen:     fmt.Sprintf("%d connections cut, %s stored", w.killed, plural(stored, "will")),
		OK:       w.killed == willDevices && stored == willDevices && once,
	}
	if w.err != nil {
		e.Seen += "; " + w.err.Error()
	}
	return e
}
