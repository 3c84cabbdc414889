package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/screen"
)

// view shows a demo as a live table on a terminal, and as lines elsewhere.
type view struct {
	*screen.Live
	// log is the file for the bridge's log while the table is shown. If it is nil, the bridge's
	// warnings are printed between the lines.
	log    *os.File
	silent atomic.Bool
}

// Write prints the bridge's warnings.
func (v *view) Write(p []byte) (int, error) {
	if v.silent.Load() {
		return len(p), nil
	}
	return v.Live.Write(p)
}

// newView selects the table or lines by the type of o.Out. The returned logger is for the bridge.
func newView(o Options, dir string, height int) (*view, zerolog.Logger, error) {
	v := &view{Live: screen.NewLive(o.Out, height, o.Plain)}
	if !v.Table() {
		console := zerolog.ConsoleWriter{Out: v, NoColor: true, TimeFormat: time.TimeOnly}
		return v, zerolog.New(console).Level(zerolog.WarnLevel).With().Timestamp().Logger(), nil
	}
	log, err := os.Create(filepath.Join(dir, "bridge.log"))
	if err != nil {
		return nil, zerolog.Nop(), fmt.Errorf("open log: %w", err)
	}
	v.log = log
	return v, zerolog.New(log).With().Timestamp().Logger(), nil
}

// logFile returns the log's name in the demo's directory, or empty text if there is no log.
func (v *view) logFile() string {
	if v.log == nil {
		return ""
	}
	return filepath.Base(v.log.Name())
}

// quiet discards the bridge's log from now on. At the end its connections close, which is expected.
// Failures are still returned as errors.
func (v *view) quiet() { v.silent.Store(true) }

// close closes the log. The bridge must have stopped.
func (v *view) close() {
	if v.log != nil {
		_ = v.log.Close() // the file is removed anyway
	}
}

// run shows the demo until its time is over, ctx ends, or the bridge fails. Only a failed bridge is an
// error.
func (v *view) run(ctx context.Context, w *watch) error {
	tick := time.NewTicker(v.Interval())
	defer tick.Stop()
	if w.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.length)
		defer cancel()
	}
	for {
		v.show(ctx, w)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case err := <-w.rig.bridge.Failed():
			return fmt.Errorf("the bridge failed: %w", err)
		}
	}
}

func (v *view) show(ctx context.Context, w *watch) {
	s := w.sample()
	if v.Table() {
		s.Streams = w.streams(ctx)
	} else if s.At < time.Second/2 {
		return // the counts are not meaningful yet
	}
	v.Show(func(columns int) []string { return table(s, columns) }, line(s))
}
