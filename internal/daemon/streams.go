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
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// ensureStreams creates or checks the streams, again and again until that has
// worked once. Only a contradiction is final. Under [streams.ManageOff] nothing is: what
// can lose messages is a warning.
func (c *control) ensureStreams(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) error {
	pause := 200 * time.Millisecond
	for {
		if c.nc.IsConnected() {
			report, err := c.manage(ctx, mode, plan)
			c.looked.Store(true)
			c.logReport(report)
			if mode == streams.ManageOff {
				c.unmanagedAre(ctx, err)
				err = nil
			}
			if err == nil {
				c.streams.Clear()
				c.probeLookups(ctx, plan)
				return nil
			}
			if errors.Is(err, streams.ErrContradiction) {
				return err
			}
			c.streams.Set(err)
		}
		if !sleep.For(ctx, pause) {
			return nil
		}
		pause = min(2*pause, 10*time.Second)
		if !c.nc.IsConnected() {
			pause = 200 * time.Millisecond
		}
	}
}

const lookTimeout = 10 * time.Second

// manage brings the streams once to where the mode wants them. A missing permission ends it
// immediately, with a conn.PermissionError.
func (c *control) manage(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) (report *streams.Report, err error) {
	err = c.denied.Do(ctx, streams.Manages, func(ctx context.Context) (err error) {
		attempt, cancel := context.WithTimeout(ctx, c.lookTimeout)
		defer cancel()
		report, err = streams.Manage(attempt, c.js, mode, plan.Streams, plan.Consumers)
		return advice.Streams(err)
	})
	return report, err
}

func (c *control) logReport(r *streams.Report) {
	if r == nil {
		return
	}
	for _, name := range r.Created {
		c.log.Info().Str("what", name).Msg("created in JetStream")
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

// watchStreams looks at the streams again after each reconnect, when the server may have
// come back without its store, and every half minute: a stream can be deleted, changed or
// corrected while the connection is open. A contradiction no longer ends the bridge: it is
// not ready.
func (c *control) watchStreams(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) {
	for c.awaitLook(ctx, mode, plan) {
		if err := c.ensureStreams(ctx, mode, plan); err != nil {
			c.streams.Set(err)
		}
	}
}

// streamsAgain is how soon it shows that streams apply has fixed what was wrong.
const streamsAgain = 30 * time.Second

// hub is the care of the streams, as a leaf node asks for it.
func (c *control) hub(mode streams.ManageMode, plan *plan.Plan) leafnode.Hub {
	return leafnode.Hub{
		Conn: c.nc, JetStream: c.js, LookAgain: c.lookAgain,
		Ensure: func(ctx context.Context) error {
			err := c.ensureStreams(ctx, mode, plan)
			if err != nil {
				c.streams.Set(err)
			}
			return err
		},
		AwaitLook: func(ctx context.Context) bool { return c.awaitLook(ctx, mode, plan) },
	}
}

// lookAgain makes awaitLook return.
func (c *control) lookAgain() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// awaitLook returns true when the streams must be looked at, and false when ctx ends. What
// a look finds in order, or one that gets no answer just once, is no reason.
func (c *control) awaitLook(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) bool {
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-c.again:
			return true
		case <-ticker.C:
		}
		if !c.nc.IsConnected() || conn.Permission(c.unread.Err()) != nil {
			continue // each refusal is a line of the server's log
		}
		report, err := c.manage(ctx, mode, plan)
		c.logReport(report)
		if mode == streams.ManageOff {
			c.unmanagedAre(ctx, err)
			continue
		}
		if ctx.Err() == nil && (err != nil || c.streams.Err() != nil) {
			return true
		}
	}
}

// noStreamForSubject reports whether JetStream is certain that no stream has the subject
// while some stream has others of its kind. A kind of subject that no stream has means
// a missing stream, which may be created again.
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
			return nobody() // it may have been created just now
		}
	}
	return false
}
