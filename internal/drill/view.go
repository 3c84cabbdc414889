package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/screen"
)

const (
	frame = 500 * time.Millisecond // between two updates of the table
	// lateWindow is the time after the last arrival in which a duplicate may still arrive.
	lateWindow = time.Second
)

// view shows a drill as a live table on a terminal, as lines elsewhere, or not at all with JSON.
type view struct {
	d      *drill
	screen *screen.Screen // nil: lines
	past   []point        // the last few samples, oldest first
	phase  string         // the current phase after publishing has ended
}

func newView(d *drill) *view {
	v := &view{d: d, past: []point{{}}}
	if !d.o.JSON && !d.o.Plain {
		v.screen = screen.New(d.o.Out, tableHeight)
	}
	return v
}

func (v *view) begin() {
	if v.d.o.JSON {
		return
	}
	intro := v.d.intro()
	fmt.Fprintln(v.d.o.Out, intro)
	if v.screen != nil {
		v.screen.Intro = intro + "\n"
	}
}

// end removes the table from the screen.
func (v *view) end() {
	if v.screen != nil {
		v.screen.End()
	}
}

func (v *view) interval() time.Duration {
	if v.screen != nil {
		return frame
	}
	return time.Second
}

// publish lets all devices publish until the time is over or ctx ends.
func (v *view) publish(ctx context.Context) {
	stop := v.d.act(ctx)
	tick := time.NewTicker(v.interval())
	defer tick.Stop()
	var end <-chan time.Time
	if v.d.o.For > 0 {
		timer := time.NewTimer(v.d.o.For)
		defer timer.Stop()
		end = timer.C
	}
	for publishing := true; publishing; {
		select {
		case <-tick.C:
			v.show()
		case <-end:
			publishing = false
		case <-ctx.Done():
			publishing = false
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
	tick := time.NewTicker(v.interval())
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
	if v.d.o.JSON {
		return
	}
	s := v.sample()
	if v.screen != nil {
		v.screen.Draw(func(columns int) []string { return table(s, columns) })
		return
	}
	fmt.Fprintln(v.d.o.Out, line(s))
}
