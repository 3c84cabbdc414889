package daemon

import (
	"context"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/plan"
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
	c.mu.Lock()
	c.lookups = Problem{}
	c.mu.Unlock()
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
	if !strings.Contains(err.Error(), publish.LookupSubject("", "")) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lookups.Problem != "" {
		return
	}
	c.lookups = Problem{
		Component: "streams", Since: time.Now(),
		Problem: "the streams may not be asked for what they have stored: after an outage longer than their duplicate window messages can be stored twice: " + err.Error(),
		Advice:  "allow the bridge's NATS user to publish to $JS.API.STREAM.MSG.GET.<stream>; see nats.conf",
	}
	c.log.Warn().Str("component", "streams").AnErr("problem", err).Str("advice", c.lookups.Advice).Msg("look-ups not permitted")
}

// warnings lists what does not keep the NATS side from being ready.
func (c *control) warnings() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.unmanaged)
	if c.lookups.Problem != "" {
		all = append(all, c.lookups)
	}
	return all
}
