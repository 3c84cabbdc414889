package streams

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/sleep"
)

// Reconciler checks streams and consumers until they match their specs. It checks again after each
// reconnect, because the server may have come back without its store, and at intervals, because
// streams can be deleted, changed or corrected while the connection is open. All methods except
// LookAgain must be called from one goroutine.
type Reconciler struct {
	conn          *nats.Conn
	every         time.Duration
	check         func(context.Context) error
	changed       func(context.Context, error)
	connected     <-chan nats.Status // reconnects since the last check of Ensure; nil until Ensure or Await begins
	again         chan struct{}
	contradiction bool // the last Ensure ended with a contradiction
}

// NewReconciler returns a reconciler that has not checked yet. check applies [Manage] and returns
// its error. changed receives that error whenever Ensure has checked; nil means that everything
// matches.
func NewReconciler(nc *nats.Conn, every time.Duration, check func(context.Context) error, changed func(context.Context, error)) *Reconciler {
	return &Reconciler{
		conn: nc, every: every, check: check, changed: changed, again: make(chan struct{}, 1),
	}
}

// observe subscribes to reconnects. It waits while nats.go tries to connect, so NewReconciler does not call it.
func (r *Reconciler) observe() {
	if r.connected == nil {
		r.connected = r.conn.StatusChanged(nats.CONNECTED)
	}
}

// Ensure checks until everything matches or ctx ends. It returns an [ErrContradiction] immediately
// and does not pass it to changed, because it may be final.
func (r *Reconciler) Ensure(ctx context.Context) error {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	r.observe()
	for pause := first; ; pause = min(2*pause, most) {
		if !r.conn.IsConnected() {
			pause = first
		} else {
			for len(r.connected) > 0 {
				<-r.connected
			}
			err := r.check(ctx)
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

// Await returns true when Ensure must be called again, and false when ctx ends. It continues to
// wait after a periodic check without an error.
func (r *Reconciler) Await(ctx context.Context) bool {
	r.observe()
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
			if r.conn.IsConnected() && (r.check(ctx) != nil || r.contradiction) && ctx.Err() == nil {
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

// Run calls Ensure whenever Await returns true. It reports a contradiction and continues.
func (r *Reconciler) Run(ctx context.Context) {
	for r.Await(ctx) {
		if err := r.Ensure(ctx); err != nil {
			r.changed(ctx, err)
		}
	}
}
