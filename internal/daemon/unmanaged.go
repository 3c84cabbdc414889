package daemon

import (
	"context"
	"errors"
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// unmanagedAre notes what a look at externally managed streams found, err, and logs what
// is new: what in them can lose messages, or why they could not be read.
func (c *control) unmanagedAre(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	var found []Problem
	add := func(problem, text string) {
		found = append(found, Problem{Component: "streams", Problem: problem, Advice: text, Since: time.Now()})
	}
	var all streams.Contradictions
	switch {
	case errors.As(err, &all):
		for _, c := range all {
			add(c.Error(), "")
		}
	case err != nil:
		add("the streams cannot be read, so what can lose messages in them does not show: "+err.Error(), advice.For(err))
	}
	var denied *conn.PermissionError
	c.unreadable = errors.As(err, &denied)
	c.mu.Lock()
	was := c.unmanaged
	for i, p := range found {
		for _, w := range was {
			if w.Problem == p.Problem {
				found[i].Since = w.Since
			}
		}
	}
	c.unmanaged = found
	c.mu.Unlock()
	c.said.note(found)
}
