package drill

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/wire"
)

// dying is how many devices with a last will lose their power.
const dying = 3

// will is devices that leave without DISCONNECT.
type will struct {
	d      *drill
	killed int
	err    error
}

// willDevice names one of them in the payload: they share a certificate.
func willDevice(i int) string { return fmt.Sprintf("will-%d", i+1) }

func (w *will) act(ctx context.Context) {
	if !sleep.For(ctx, w.d.o.lead) {
		return
	}
	ctx = context.WithoutCancel(ctx) // once begun it is done, on a slow machine too
	for i := range dying {
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

// missing is how many wills are still to come.
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
		Expected: fmt.Sprintf("the wills of %d devices that lose their power are stored, once each", dying),
		Seen:     fmt.Sprintf("%d connections cut, %s stored", w.killed, plural(stored, "will")),
		OK:       w.killed == dying && stored == dying && once,
	}
	if w.err != nil {
		e.Seen += "; " + w.err.Error()
	}
	return e
}
