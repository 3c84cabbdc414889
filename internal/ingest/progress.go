package ingest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	progressEvery = 500 * time.Millisecond
	// behind is the minimum lag for which the line is shown.
	behind = 2000
	// rateWindow is the time over which the rate is computed.
	rateWindow = 5 * time.Second
)

// Progress is the status line below the log on a terminal while ingest catches up.
type Progress struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	shown bool
	past  []mark
}

type mark struct {
	at           time.Time
	acknowledged uint64
}

// NewProgress returns a Progress. If terminal is false, it shows nothing.
func NewProgress(out io.Writer, terminal bool) *Progress {
	return &Progress{out: out, live: terminal}
}

// Before returns a logger that clears the line before it writes.
func (p *Progress) Before(log zerolog.Logger) zerolog.Logger {
	if !p.live {
		return log
	}
	return log.Hook(zerolog.HookFunc(func(*zerolog.Event, zerolog.Level, string) { p.clear() }))
}

// Show shows the line until ctx ends or ingest fails, and returns the error of ingest.
func (p *Progress) Show(ctx context.Context, i *Ingest) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	defer p.clear()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-i.Failed():
			return err
		case now := <-tick.C:
			if p.live {
				p.draw(p.line(now, i.Tables()))
			}
		}
	}
}

func (p *Progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		p.shown = false
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}

func (p *Progress) draw(line string) {
	if line == "" {
		p.clear()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = true
	_, _ = io.WriteString(p.out, "\r"+line+"\x1b[K")
}

// line returns the lag, the rate and the estimated time to catch up; empty if the lag is small.
func (p *Progress) line(now time.Time, tables []TableStatus) string {
	var lag, acknowledged uint64
	for _, t := range tables {
		lag += t.Lag
		acknowledged += t.Acknowledged
	}
	for len(p.past) > 1 && now.Sub(p.past[1].at) >= rateWindow {
		p.past = p.past[1:]
	}
	p.past = append(p.past, mark{now, acknowledged})
	if lag < behind {
		return ""
	}
	first := p.past[0]
	rate := 0.0
	if took := now.Sub(first.at).Seconds(); took > 0 {
		rate = float64(acknowledged-first.acknowledged) / took
	}
	text := fmt.Sprintf("catching up: %d messages behind, %.0f per second", lag, rate)
	if rate >= 1 {
		left := time.Duration(float64(lag) / rate * float64(time.Second))
		text += ", done in " + left.Round(time.Second).String()
	}
	return text
}
