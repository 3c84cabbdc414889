package demo

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/screen"
)

// watch takes samples of a running demo. It must be used by one goroutine only.
type watch struct {
	rig      *rig
	fleet    *crew
	provoked []verdict.Reason
	started  time.Time
	length   time.Duration

	rate         screen.Rate
	streamCounts []streamCount // the last successful reading
	last         atomic.Value  // a string that describes the latest message in quarantine
}

func newWatch(r *rig, f *crew, provoked []verdict.Reason, length time.Duration) (*watch, error) {
	w := &watch{rig: r, fleet: f, provoked: provoked, length: length, started: time.Now()}
	// A message that is published to a stream also reaches core NATS subscribers.
	_, err := r.nc.Subscribe(bridge.QuarantineSubject+".>", func(m *nats.Msg) {
		w.last.Store(screen.Printable(m.Header.Get(bridge.HeaderReason) + ", " + m.Header.Get(bridge.HeaderDetail)))
	})
	if err != nil {
		return nil, fmt.Errorf("watch quarantine: %w", err)
	}
	return w, nil
}

// sample returns the current state without the streams.
func (w *watch) sample() *sample {
	counts := w.rig.bridge.Totals()
	at := time.Since(w.started)
	last, _ := w.last.Load().(string)
	return &sample{
		At: at, For: w.length, Fleet: w.fleet.tally(), Bridge: counts,
		Rate: w.rate.Update(at, float64(delivered(&counts))), Provoked: w.provoked, Last: last,
		Written: w.rig.database.written(),
	}
}

// streams reads the counts of the streams. On an error, it returns the previous counts: settle reads
// them again at the end and reports the error.
func (w *watch) streams(ctx context.Context) []streamCount {
	if counts, err := w.rig.streamCounts(ctx); err == nil {
		w.streamCounts = counts
	}
	return w.streamCounts
}
