package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/screen"
)

const frame = 500 * time.Millisecond // between two pictures of the table

// view shows a demo: as a live table on a terminal, elsewhere as lines.
type view struct {
	out    io.Writer
	screen *screen.Screen // nil: lines
	// log takes the bridge's log where it would disturb the table; nil: its
	// warnings come between the lines.
	log    *os.File
	silent atomic.Bool
}

// Write takes the bridge's warnings.
func (v *view) Write(p []byte) (int, error) {
	if v.silent.Load() {
		return len(p), nil
	}
	return v.out.Write(p)
}

// newView looks at what out is. The logger is the bridge's.
func newView(o Options, dir string, height int) (*view, zerolog.Logger, error) {
	v := &view{out: &lockedWriter{out: o.Out}}
	if !o.Plain {
		v.screen = screen.New(o.Out, height)
	}
	if v.screen == nil {
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

// logFile is the log's name in the demo's directory, empty where there is none.
func (v *view) logFile() string {
	if v.log == nil {
		return ""
	}
	return filepath.Base(v.log.Name())
}

// quiet drops what the bridge logs from now on. That its connections close at the
// end is no news; what fails there comes as an error.
func (v *view) quiet() { v.silent.Store(true) }

// close is after the bridge has logged its last.
func (v *view) close() {
	if v.log != nil {
		_ = v.log.Close() // it is about to be removed
	}
}

func (v *view) begin(intro string) {
	fmt.Fprintln(v.out, intro)
	if v.screen != nil {
		v.screen.Intro = intro + "\n"
	}
}

// run shows the demo until its time is over, ctx ends, or the bridge gives up:
// only that is an error.
func (v *view) run(ctx context.Context, w *watch) error {
	pace := time.Second
	if v.screen != nil {
		pace = frame
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var over <-chan time.Time
	if w.length > 0 {
		over = time.After(w.length)
	}
	for {
		v.show(ctx, w)
		select {
		case <-tick.C:
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		case err := <-w.rig.bridge.Failed():
			return fmt.Errorf("the bridge gave up: %w", err)
		}
	}
}

func (v *view) show(ctx context.Context, w *watch) {
	s := w.sample()
	switch {
	case v.screen != nil:
		s.Streams = w.streams(ctx)
		v.screen.Draw(func(columns int) []string { return table(s, columns) })
	case s.At >= time.Second/2: // there is nothing to tell before
		fmt.Fprintln(v.out, line(s))
	}
}

// end takes the table away.
func (v *view) end() {
	if v.screen != nil {
		v.screen.End()
	}
}

// lockedWriter keeps the lines of several goroutines whole.
type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
