package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options of a demo. Out is required.
type Options struct {
	// Out is where everything is printed. A terminal gets a live table.
	Out io.Writer
	// For is how long the devices publish; 0: until the context ends.
	For time.Duration
	// Plain prints a line per second even on a terminal.
	Plain bool
	// Devices is the number of honest devices, 3 or more; 0: 30. Five
	// offenders are added.
	Devices int
	// Rate is what each honest device publishes, in messages per second; 0: 5.
	Rate    float64
	Version string
	// DatabaseURL adds ingest into this PostgreSQL, in a schema that the demo
	// creates and drops; empty: the demo ends at the streams.
	DatabaseURL string

	temp string // where the demo's directory is created; empty: the system's place
}

// limit is the demo's limits.device.rate: out of reach for an honest device.
func (o Options) limit() float64 { return max(10, 2*o.Rate) }

func (o *Options) complete() error {
	if o.Devices == 0 {
		o.Devices = 30
	}
	if o.Rate == 0 {
		o.Rate = 5
	}
	switch {
	case o.Out == nil:
		return errors.New("start demo: Out is required")
	case o.Devices < 3 || o.Devices > 10_000:
		return fmt.Errorf("start demo: %d devices: must be 3 to 10000", o.Devices)
	case !(o.Rate >= 0.01 && o.Rate <= 1000):
		return fmt.Errorf("start demo: %g messages per second: must be 0.01 to 1000", o.Rate)
	case o.For < 0:
		return fmt.Errorf("start demo: it cannot last %s", o.For)
	}
	return nil
}

// Run starts everything, lets the devices publish for as long as the options say
// or until ctx ends, and prints a summary. It returns nil only where every
// message is accounted for and each offence was seen; otherwise an error that
// wraps [ErrUnaccounted], or what kept the demo from running. Nothing is left
// behind in either case.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.complete(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.temp, "mqtt-nats-demo-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	roles := cast(o)
	reasons := provoked(roles)
	v, log, err := newView(o, dir, tableHeight(reasons, o.DatabaseURL != ""))
	if err != nil {
		return err
	}
	defer v.close()
	r, err := newRig(ctx, o, dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	f, err := newCrew(ctx, roles, r.broker.TLSURL(), r.authority)
	if err != nil {
		return err
	}
	defer f.Disconnect()
	w, err := newWatch(r, f, reasons, o.For)
	if err != nil {
		return err
	}

	v.begin(intro(r, len(roles), v.logFile()))
	f.Start()
	failed := v.run(ctx, w)
	// First of all: a user who is impatient and interrupts once more gets the
	// cursor back.
	v.end()
	f.Stop()
	took := time.Since(w.started)

	a := settle(context.WithoutCancel(ctx), r, f, reasons)
	a.fault(failed)
	v.quiet()
	a.fault(r.stopBridge())
	checks := a.checks()
	if _, err := io.WriteString(v.out, summary(a, checks, took)); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return conclude(checks)
}
