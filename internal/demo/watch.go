package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/screen"
)

// window is the time over which the message rate is measured.
const window = 3 * time.Second

// watch takes samples of a running demo. It must be used by one goroutine only.
type watch struct {
	rig      *rig
	fleet    *crew
	provoked []verdict.Reason
	started  time.Time
	length   time.Duration

	past         []point       // the last few samples, oldest first
	streamCounts []streamCount // the last successful reading
	last         *lastQuarantined
}

type point struct {
	at       time.Duration
	received uint64
}

func newWatch(r *rig, f *crew, provoked []verdict.Reason, length time.Duration) (*watch, error) {
	last, err := watchQuarantine(r.nc)
	if err != nil {
		return nil, err
	}
	return &watch{
		rig: r, fleet: f, provoked: provoked, length: length,
		started: time.Now(), past: []point{{}}, last: last,
	}, nil
}

// sample returns the current state without the streams.
func (w *watch) sample() *sample {
	counts := w.rig.bridge.Totals()
	now := point{at: time.Since(w.started), received: delivered(&counts)}
	for len(w.past) > 1 && now.at-w.past[1].at >= window {
		w.past = w.past[1:]
	}
	s := &sample{
		At: now.at, For: w.length, Fleet: w.fleet.tally(), Bridge: counts,
		Rate: now.rateSince(w.past[0]), Provoked: w.provoked, Last: w.last.text(),
		Written: w.rig.database.written(),
	}
	w.past = append(w.past, now)
	return s
}

// streams reads the counts of the streams. On an error, it returns the previous counts: settle reads
// them again at the end and reports the error.
func (w *watch) streams(ctx context.Context) []streamCount {
	if counts, err := w.rig.streamCounts(ctx); err == nil {
		w.streamCounts = counts
	}
	return w.streamCounts
}

func (p point) rateSince(past point) float64 {
	if p.at <= past.at {
		return 0
	}
	return float64(p.received-past.received) / (p.at - past.at).Seconds()
}

// lastQuarantined describes the latest message in quarantine.
type lastQuarantined struct {
	mu   sync.Mutex
	line string
}

// watchQuarantine subscribes to the subjects of the quarantine stream. A message that is published to
// a stream also reaches core NATS subscribers.
func watchQuarantine(nc *nats.Conn) (*lastQuarantined, error) {
	q := &lastQuarantined{}
	_, err := nc.Subscribe(bridge.QuarantineSubject+".>", func(m *nats.Msg) {
		line := screen.Printable(m.Header.Get(bridge.HeaderReason) + ", " + m.Header.Get(bridge.HeaderDetail))
		q.mu.Lock()
		defer q.mu.Unlock()
		q.line = line
	})
	if err != nil {
		return nil, fmt.Errorf("watch quarantine: %w", err)
	}
	return q, nil
}

func (q *lastQuarantined) text() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line
}
