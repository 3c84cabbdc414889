package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/account"
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
	add := func(problem, advice string) {
		found = append(found, Problem{Component: "streams", Problem: problem, Advice: advice, Since: time.Now()})
	}
	switch {
	case errors.Is(err, streams.ErrContradiction):
		_, faults, _ := strings.Cut(err.Error(), "\n")
		for fault := range strings.Lines(faults) {
			add(strings.TrimSpace(fault), "")
		}
	case err != nil:
		add("the streams cannot be read, so what can lose messages in them does not show: "+err.Error(), account.Advice(err))
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
