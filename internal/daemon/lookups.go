package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
)

// lookupOptions returns the options with which publishers look up messages after the duplicate
// window.
func (c *control) lookupOptions(plan *plan.Plan) *publish.LookupOptions {
	o := &publish.LookupOptions{API: c.api, StreamOf: plan.StreamOf}
	if plan.Local {
		o.API = "$JS.API"
	}
	var least time.Duration
	for _, s := range plan.Streams {
		if least == 0 || s.DuplicateWindow < least {
			least = s.DuplicateWindow
		}
	}
	if least == 0 {
		return nil // no stream to look messages up in
	}
	o.Window = func() time.Duration {
		if is := time.Duration(c.window.Load()); is > 0 {
			return min(is, least)
		}
		return least
	}
	return o
}

// probeLookups reads the duplicate windows of the streams and tries one look-up per stream, so that
// a missing permission is found early. The server reports a violation to the connection's error
// handler: see lookupError.
func (c *control) probeLookups(ctx context.Context, plan *plan.Plan) {
	if plan.Local || !c.nc.IsConnected() {
		return
	}
	c.lookups.Clear()
	var least time.Duration
	for _, s := range plan.Streams {
		_ = c.nc.PublishRequest(publish.LookupSubject(c.api, s.Name), c.nc.NewInbox(), []byte(`{"seq":1}`))
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		stream, err := c.js.Stream(ctx, s.Name)
		cancel()
		if err != nil {
			continue // reported by the stream check
		}
		if is := stream.CachedInfo().Config.Duplicates; least == 0 || is < least {
			least = is
		}
	}
	c.window.Store(int64(least))
}

// lookupError records that look-ups are not permitted.
func (c *control) lookupError(err error) {
	denied := conn.Permission(err)
	if denied == nil || !strings.Contains(denied.Subject, publish.LookupSubject("", "")) || c.lookups.Err() != nil {
		return // only the first of several streams is reported
	}
	c.lookups.Set(fmt.Errorf("%w, so messages can be stored twice after an outage longer than the duplicate window: %w", publish.ErrLookupDenied, denied))
}

// warnings lists the problems that do not keep the NATS side from being ready.
func (c *control) warnings() []Problem {
	return append(c.unmanagedProblems(), c.lookups.Problems()...)
}
