package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
)

// lookupOptions let the lanes' publishers ask the streams for what JetStream may have
// forgotten.
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
		return nil // no stream to ask
	}
	o.Window = func() time.Duration {
		if is := time.Duration(c.window.Load()); is > 0 {
			return min(is, least)
		}
		return least
	}
	return o
}

// probeLookups reads the streams' duplicate windows and asks each stream for a message,
// to learn before it matters whether the bridge's user may. A refusal comes through
// the connection's error handler: see lookupError.
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
			continue // reported elsewhere, where it matters
		}
		if is := stream.CachedInfo().Config.Duplicates; least == 0 || is < least {
			least = is
		}
	}
	c.window.Store(int64(least))
}

// lookupError notes that the streams may not be asked.
func (c *control) lookupError(err error) {
	denied := conn.Permission(err)
	if denied == nil || !strings.Contains(denied.Subject, publish.LookupSubject("", "")) || c.lookups.Err() != nil {
		return // of several streams the first is named
	}
	c.lookups.Set(advice.With(
		fmt.Errorf("the streams may not be asked for what they have stored: after an outage longer than their duplicate window messages can be stored twice: %w", denied),
		"allow the bridge's NATS user to publish to $JS.API.STREAM.MSG.GET.<stream>; see nats.conf"))
}

// warnings lists what does not keep the NATS side from being ready.
func (c *control) warnings() []Problem {
	return append(c.unmanagedProblems(), c.lookups.Problems()...)
}
