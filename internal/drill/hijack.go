package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/wire"
)

// hijack is a device that connects with the client id of a lane, first with clean session 0, then
// with clean session 1.
type hijack struct {
	d        *drill
	attempts []*attempt
}

type attempt struct {
	clean    bool
	refused  error
	present  bool
	received atomic.Int64
}

func (h *hijack) act(ctx context.Context) {
	if !sleep.For(ctx, h.d.o.lead) {
		return
	}
	ctx = context.WithoutCancel(ctx) // complete both attempts, even on a slow machine
	h.try(ctx, false)
	sleep.For(ctx, h.d.o.hold)
	h.try(ctx, true)
}

func (h *hijack) try(ctx context.Context, clean bool) {
	a := &attempt{clean: clean}
	o := h.d.o.device(h.d.crew.other, h.d.o.LaneClientID)
	o.Connect.KeepSession = !clean
	o.Received = func(string) { a.received.Add(1) }
	device := fleet.New(o)
	err := device.Connect(ctx)
	h.attempts = append(h.attempts, a)
	if err != nil {
		a.refused = err
		return
	}
	a.present = device.SessionPresent()
	sleep.For(ctx, h.d.o.hold)
	// Closing the connection without a DISCONNECT leaves the session otherwise unchanged.
	device.Kill()
}

func (h *hijack) outcome() Expectation {
	e := Expectation{
		Name:     "hijack",
		Expected: fmt.Sprintf("a device that connects as %s gets neither a session nor a message, with clean session 0 and 1", h.d.o.LaneClientID),
		OK:       len(h.attempts) == 2,
	}
	var seen []string
	for _, a := range h.attempts {
		text := fmt.Sprintf("clean session %d: ", map[bool]int{true: 1}[a.clean])
		var refused *wire.RefusedError
		switch {
		case errors.As(a.refused, &refused):
			text += fmt.Sprintf("refused with code %d", refused.Code)
		case a.refused != nil:
			// The broker did not answer, so the attempt shows nothing.
			text += a.refused.Error()
			e.OK = false
		default:
			text += fmt.Sprintf("accepted, session present %t, %s received", a.present, plural(int(a.received.Load()), "message"))
			e.OK = e.OK && !a.present && a.received.Load() == 0
		}
		seen = append(seen, text)
	}
	if len(h.attempts) == 0 {
		seen = append(seen, "the drill ended before the first attempt")
	}
	e.Seen = strings.Join(seen, "; ")
	return e
}
