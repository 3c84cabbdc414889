package streams

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/sleep"
)

// Reconciler looks at streams and consumers until nothing is wrong with them. It looks again after
// each reconnect, when the server may have come back without its store, and at intervals: they can
// be deleted, changed or corrected while the connection is open. Its methods except LookAgain are
// for one goroutine.
type Reconciler struct {
	conn          *nats.Conn
	every         time.Duration
	look          func(context.Context) error
	changed       func(context.Context, error)
	connected     <-chan nats.Status // the reconnects since the last look of Ensure
	again         chan struct{}
	contradiction bool // ended the last Ensure
}

// NewReconciler returns a reconciler that has not looked yet. look applies [Manage] and returns what
// is wrong. changed receives that while Ensure looks; nil: nothing is.
func NewReconciler(nc *nats.Conn, every time.Duration, look func(context.Context) error, changed func(context.Context, error)) *Reconciler {
	return &Reconciler{
		conn: nc, every: every, look: look, changed: changed, connected: nc.StatusChanged(nats.CONNECTED), again: make(chan struct{}, 1),
	}
}

// Ensure looks until nothing is wrong, or until ctx ends. It returns an [ErrContradiction]
// immediately and does not report it: it may be final.
func (r *Reconciler) Ensure(ctx context.Context) error {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	for pause := first; ; pause = min(2*pause, most) {
		if !r.conn.IsConnected() {
			pause = first
		} else {
			for len(r.connected) > 0 {
				<-r.connected
			}
			err := r.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if r.contradiction = errors.Is(err, ErrContradiction); r.contradiction {
				return err
			}
			if r.changed(ctx, err); err == nil {
				return nil
			}
		}
		if !sleep.For(ctx, pause) {
			return nil
		}
	}
}

// Await returns true when Ensure must be called again, and false when ctx ends. A look that finds
// nothing wrong is no reason.
func (r *Reconciler) Await(ctx context.Context) bool {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-r.connected:
			return true
		case <-r.again:
			return true
		case <-ticker.C:
			if r.conn.IsConnected() && (r.look(ctx) != nil || r.contradiction) && ctx.Err() == nil {
				return true
			}
		}
	}
}

// LookAgain makes Await return true. Safe for concurrent use.
func (r *Reconciler) LookAgain() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// Run calls Ensure each time that Await returns true. A contradiction is reported and does not end
// it.
func (r *Reconciler) Run(ctx context.Context) {
	for r.Await(ctx) {
		if err := r.Ensure(ctx); err != nil {
			r.changed(ctx, err)
		}
	}
}
