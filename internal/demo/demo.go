package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options configures a demo. Out is required.
type Options struct {
	// Out is the writer for all output. On a terminal, a live table is shown.
	Out io.Writer
	// For is how long the devices publish; 0: until the context ends.
	For time.Duration
	// Plain prints a line per second even on a terminal.
	Plain bool
	// Devices is the number of well-behaved devices, at least 3; 0: 30. Five misbehaving ones are
	// added.
	Devices int
	// Rate is the publish rate of each well-behaved device, in messages per second; 0: 5.
	Rate    float64
	Version string
	// DatabaseURL adds ingest, which writes to this PostgreSQL in a schema that the demo creates and
	// drops. Empty: no ingest.
	DatabaseURL string

	temp string // parent of the demo's directory; empty: the system's temporary directory
}

// limit returns the demo's limits.device.rate, which a well-behaved device does not reach.
func (o Options) limit() float64 { return max(10, 2*o.Rate) }

func (o *Options) complete() error {
	o.Devices = cmp.Or(o.Devices, 30)
	o.Rate = cmp.Or(o.Rate, 5)
	switch {
	case o.Out == nil:
		return errors.New("start demo: Out is required")
	case o.Devices < 3 || o.Devices > 10_000:
		return fmt.Errorf("start demo: %d devices: must be 3 to 10000", o.Devices)
	case !(o.Rate >= 0.01 && o.Rate <= 1000):
		return fmt.Errorf("start demo: %g messages per second: must be 0.01 to 1000", o.Rate)
	case o.For < 0:
		return fmt.Errorf("start demo: invalid duration %s", o.For)
	}
	return nil
}

// Run starts all parts, lets the devices publish for the configured time or until ctx ends, and prints
// a summary. It returns nil only if every message is accounted for and every provoked reason occurred.
// Otherwise the error wraps [ErrUnaccounted], or is the reason why the demo could not run. Run always
// removes its files and its schema.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.complete(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.temp, "mqtt-nats-demo-")
	if err != nil {
		return fmt.Errorf("create directory: %w", err)
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

	v.Begin(intro(r, len(roles), v.logFile()))
	f.Start()
	failed := v.run(ctx, w)
	// This comes first, so that the cursor is restored if the user interrupts again.
	v.End()
	f.Stop()
	took := time.Since(w.started)

	a := settle(context.WithoutCancel(ctx), r, f, reasons)
	a.addError(failed)
	v.quiet()
	a.addError(r.stopBridge())
	checks := a.checks()
	if _, err := io.WriteString(v.Live, summary(a, checks, took)); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return conclude(checks)
}
