package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// unreadable begins the problem of streams that could not be read.
const unreadable = "the streams cannot be read, so their settings could not be checked: "

// unmanagedAre notes what a look at externally managed streams found, err, and logs what
// is new: what in them can lose messages, or why they could not be read. Then what the
// look before found still applies.
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
		add(unreadable+err.Error(), advice.For(err))
	}
	var denied *conn.PermissionError
	c.unreadable = errors.As(err, &denied)
	c.mu.Lock()
	for _, w := range c.unmanaged {
		i := slices.IndexFunc(found, func(p Problem) bool { return p.Problem == w.Problem })
		switch {
		case i >= 0:
			found[i].Since = w.Since
		case err != nil && all == nil && !strings.HasPrefix(w.Problem, unreadable):
			found = append(found, w)
		}
	}
	c.unmanaged = found
	c.mu.Unlock()
	c.said.note(found)
}
