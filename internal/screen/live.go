package screen

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Live shows the progress of a program: as a table on a terminal, and as a line per second elsewhere.
// Its Write keeps the lines of several goroutines from mixing.
type Live struct {
	mu     sync.Mutex
	out    io.Writer
	screen *Screen // nil: lines
}

// NewLive selects the table if out is a terminal with room for the given height, and plain is false.
func NewLive(out io.Writer, height int, plain bool) *Live {
	l := &Live{out: out}
	if !plain {
		l.screen = New(out, height)
	}
	return l
}

// Write implements [io.Writer].
func (l *Live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// Table reports whether the table is shown.
func (l *Live) Table() bool { return l.screen != nil }

// Interval returns the time between two calls of Show.
func (l *Live) Interval() time.Duration {
	if l.Table() {
		return 500 * time.Millisecond
	}
	return time.Second
}

// Begin prints a text above the table or the lines.
func (l *Live) Begin(intro string) {
	fmt.Fprintln(l, intro)
	if l.Table() {
		l.screen.Intro = intro + "\n"
	}
}

// Show replaces the table, or prints the line.
func (l *Live) Show(table func(columns int) []string, line string) {
	if l.Table() {
		l.screen.Draw(table)
	} else {
		fmt.Fprintln(l, line)
	}
}

// End removes the table from the terminal.
func (l *Live) End() {
	if l.Table() {
		l.screen.End()
	}
}

// rateWindow is the time over which a Rate is measured.
const rateWindow = 3 * time.Second

// Rate measures how fast a count grows. The zero value has counted nothing at the time 0.
type Rate struct {
	past []reading // of the window, oldest first; at least one
}

type reading struct {
	at    time.Duration
	count float64
}

// Update adds the count at a time and returns the growth per second over the last few seconds.
func (r *Rate) Update(at time.Duration, count float64) float64 {
	if r.past == nil {
		r.past = []reading{{}}
	}
	for len(r.past) > 1 && at-r.past[1].at >= rateWindow {
		r.past = r.past[1:]
	}
	first := r.past[0]
	r.past = append(r.past, reading{at, count})
	if at <= first.at {
		return 0
	}
	return (count - first.count) / (at - first.at).Seconds()
}
