package drill

import (
	"context"
	"errors"
	"io"
	"time"

	"mqtt-nats-bridge/internal/screen"
)

// lateWindow is the time after the last arrival in which a duplicate may still arrive.
const lateWindow = time.Second

// view shows a drill as a live table on a terminal, as lines elsewhere, or not at all with JSON.
type view struct {
	*screen.Live
	d     *drill
	rate  screen.Rate
	phase string // the current phase after publishing has ended
}

func newView(d *drill) *view {
	out := d.o.Out
	if d.o.JSON {
		out = io.Discard
	}
	return &view{Live: screen.NewLive(out, tableHeight, d.o.Plain), d: d}
}

// publish lets all devices publish until the time is over or ctx ends.
func (v *view) publish(ctx context.Context) {
	stop := v.d.act(ctx)
	tick := time.NewTicker(v.Interval())
	defer tick.Stop()
	if v.d.o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.d.o.For)
		defer cancel()
	}
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			v.show()
		case <-ctx.Done():
		}
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	v.phase = "waiting for PUBACKs"
	for {
		select {
		case <-tick.C:
			v.show()
		case <-stopped:
			return
		}
	}
}

// settle waits until no message is missing and every stream has been read to its end. It gives up when
// no message of this drill has arrived for Settle. The error describes what is incomplete.
func (v *view) settle() error {
	tick := time.NewTicker(v.Interval())
	defer tick.Stop()
	quiet := time.NewTimer(v.d.o.Settle)
	defer quiet.Stop()
	// The state is checked again some time after the last arrival, because other goroutines read
	// the streams.
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case <-v.d.arrived:
			quiet.Reset(v.d.o.Settle)
			poll.Reset(lateWindow)
		case <-poll.C:
			if v.phase = v.d.unfinished(); v.phase == "" {
				err := v.d.caughtUp()
				if err == nil {
					return nil
				}
				v.phase = err.Error()
			}
			poll.Reset(lateWindow)
		case <-tick.C:
			v.show()
		case <-quiet.C:
			return v.d.caughtUp()
		}
	}
}

func (d *drill) caughtUp() error {
	ctx := context.Background() // each request has its own timeout
	var errs []error
	for _, r := range d.readers {
		errs = append(errs, r.caughtUp(ctx))
	}
	return errors.Join(errs...)
}

func (v *view) show() {
	s := v.sample()
	v.Show(func(columns int) []string { return table(s, columns) }, line(s))
}
