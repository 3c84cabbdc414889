package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/leafnode"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

const (
	lookTimeout = 10 * time.Second
	// checkInterval is the interval between checks. It bounds the time until a fix by streams apply
	// is noticed.
	checkInterval = 30 * time.Second
)

// newReconciler returns the reconciler of the streams.
func (c *control) newReconciler(mode streams.ManageMode, plan *plan.Plan, every time.Duration) *streams.Reconciler {
	look := func(ctx context.Context) error { return c.look(ctx, mode, plan) }
	return streams.NewReconciler(c.nc, every, look, func(ctx context.Context, err error) {
		c.streams.Set(err)
		if err == nil {
			c.probeLookups(ctx, plan)
		}
	})
}

// look reconciles the streams once, as mode requires, and returns the problem. A missing permission
// ends it immediately with a conn.PermissionError. With [streams.ManageOff] it returns no problem:
// settings that can lose messages are warnings.
func (c *control) look(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) error {
	connection := c.nc.Stats().Reconnects + 1
	if c.refusedOn == connection {
		return nil // the server logs each violation
	}
	var report *streams.Report
	err := c.denied.Do(ctx, streams.NeedsPermission, func(ctx context.Context) (err error) {
		attempt, cancel := context.WithTimeout(ctx, c.lookTimeout)
		defer cancel()
		report, err = streams.Manage(attempt, c.js, mode, plan.Streams, plan.Consumers)
		return advice.Streams(err)
	})
	c.looked.Store(true)
	c.logReport(report)
	if mode != streams.ManageOff {
		return err
	}
	c.recordUnmanaged(ctx, err)
	if conn.Permission(c.unread.Err()) != nil {
		c.refusedOn = connection
	}
	return nil
}

func (c *control) logReport(r *streams.Report) {
	if r == nil {
		return
	}
	for _, name := range r.Created {
		c.log.Info().Str("name", name).Msg("stream or consumer created")
	}
	for _, note := range r.Notes {
		if !slices.Contains(c.notes, note) {
			c.log.Warn().Str("component", "streams").Str("note", note).Msg("stream differs from the configuration")
		}
	}
	if r.Difference != nil {
		c.notes = r.Notes
	}
}

// hub returns the reconciliation of the streams for the leaf node.
func (c *control) hub() leafnode.Hub {
	return leafnode.Hub{
		Conn: c.nc, JetStream: c.js, AwaitLook: c.reconciler.Await, LookAgain: c.reconciler.LookAgain,
		Ensure: func(ctx context.Context) error {
			err := c.reconciler.Ensure(ctx)
			if err != nil {
				c.streams.Set(err)
			}
			return err
		},
	}
}

// noStreamForSubject reports whether JetStream confirms that no stream has the subject, although a
// stream has other subjects of its kind. If no stream has any subject of the kind, a stream is
// missing, which may be created again.
func (c *control) noStreamForSubject(ctx context.Context, plan *plan.Plan, subject string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	nobody := func() bool {
		_, err := c.js.StreamNameBySubject(ctx, subject)
		return errors.Is(err, natsjs.ErrStreamNotFound)
	}
	if !nobody() {
		return false
	}
	for i := range plan.Rules.Topics.Len() {
		kind := plan.Rules.Topics.Route(i).Template.StreamSubject()
		if !streams.Covers(kind, subject) {
			continue
		}
		if _, err := c.js.StreamNameBySubject(ctx, kind); err == nil {
			return nobody() // the stream may have just been created
		}
	}
	return false
}
