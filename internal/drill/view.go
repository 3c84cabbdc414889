package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/screen"
)

const (
	frame = 500 * time.Millisecond // between two pictures of the table
	// late is how long after the last arrival a duplicate may still come.
	late = time.Second
)

// view shows a drill: as a live table on a terminal, elsewhere as lines, or not at all.
type view struct {
	d      *drill
	screen *screen.Screen // nil: lines
	past   []point        // the last few samples, oldest first
	phase  string         // once the publishing has ended
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

// end takes the table away.
func (v *view) end() {
	if v.screen != nil {
		v.screen.End()
	}
}

func (v *view) pace() time.Duration {
	if v.screen != nil {
		return frame
	}
	return time.Second
}

// publish has everybody publish until the time is over or ctx ends.
func (v *view) publish(ctx context.Context) {
	stop := v.d.act(ctx)
	tick := time.NewTicker(v.pace())
	defer tick.Stop()
	var over <-chan time.Time
	if v.d.o.For > 0 {
		timer := time.NewTimer(v.d.o.For)
		defer timer.Stop()
		over = timer.C
	}
	for publishing := true; publishing; {
		select {
		case <-tick.C:
			v.show()
		case <-over:
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

// settle waits until nothing is missing and every stream is read to its end, as long as
// messages of this drill arrive. The error says what was not complete.
func (v *view) settle() error {
	tick := time.NewTicker(v.pace())
	defer tick.Stop()
	quiet := time.NewTimer(v.d.o.Settle)
	defer quiet.Stop()
	// poll looks again after the last arrival: what is read is read by others.
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case <-v.d.arrived:
			quiet.Reset(v.d.o.Settle)
			poll.Reset(late)
		case <-poll.C:
			if v.phase = v.d.unfinished(); v.phase == "" {
				err := v.d.caughtUp()
				if err == nil {
					return nil
				}
				v.phase = err.Error()
			}
			poll.Reset(late)
		case <-tick.C:
			v.show()
		case <-quiet.C:
			return v.d.caughtUp()
		}
	}
}

func (d *drill) caughtUp() error {
	ctx := context.Background() // each request has a bound of its own
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
