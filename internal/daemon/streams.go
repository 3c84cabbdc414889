package daemon

import (
	"context"
	"errors"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream"
)

// ensureStreams makes or checks the streams, again and again until that has
// worked once. Only a contradiction is final.
func (c *control) ensureStreams(ctx context.Context, mode jetstream.ManageMode, plan *Plan) error {
	if mode == jetstream.ManageOff {
		c.streamsAre("")
		c.probeLookups(ctx, plan)
		return nil
	}
	pause := 200 * time.Millisecond
	for {
		if c.nc.IsConnected() {
			attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
			report, err := jetstream.Manage(attempt, c.js, mode, plan.Streams, plan.Consumers)
			cancel()
			c.logReport(report)
			if err == nil {
				c.streamsAre("")
				c.probeLookups(ctx, plan)
				return nil
			}
			if errors.Is(err, jetstream.ErrContradiction) {
				return err
			}
			c.streamsNotReady(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, 10*time.Second)
			if !c.nc.IsConnected() {
				pause = 200 * time.Millisecond
			}
		}
	}
}

func (c *control) logReport(r *jetstream.Report) {
	if r == nil {
		return
	}
	for _, name := range r.Created {
		c.log.Info().Str("what", name).Msg("created in JetStream")
	}
	for _, note := range r.Notes {
		c.log.Warn().Str("note", note).Msg("stream differs from the configuration")
	}
}

// streamsAre notes what is wrong with the streams and tells whether that is
// news.
func (c *control) streamsAre(problem string) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = problem != c.streams
	if c.checked != (problem == "") {
		c.checking = time.Now()
	}
	c.streams, c.checked = problem, problem == ""
	return news
}

func (c *control) streamsNotReady(err error) {
	if c.streamsAre(err.Error()) {
		c.log.Error().AnErr("problem", err).Msg("streams not ready")
	}
}

// watchStreams looks at the streams again after each reconnect: the server may
// have come back without its store. A contradiction no longer ends the bridge: it
// is not ready, and looks again at the next reconnect and every half minute, for
// whoever mends the streams does not end the connection.
func (c *control) watchStreams(ctx context.Context, mode jetstream.ManageMode, plan *Plan) {
	var again <-chan time.Time // nil: the streams are as they should be
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.again:
		case <-again:
		}
		again = nil
		if err := c.ensureStreams(ctx, mode, plan); err != nil {
			c.streamsNotReady(err)
			again = time.After(streamsAgain)
		}
	}
}

// unheld tells whether JetStream is certain that no stream holds the subject
// while some stream holds others of its kind. A kind of subject that nobody holds
// at all is a stream that is missing, which may come back.
func (c *control) unheld(ctx context.Context, plan *Plan, subject string) bool {
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
		if !jetstream.Covers(kind, subject) {
			continue
		}
		if _, err := c.js.StreamNameBySubject(ctx, kind); err == nil {
			return nobody() // it may have been made just now
		}
	}
	return false
}
