package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/jetstream/streams"
)

// recordUnmanaged records the result of a check of externally managed streams and logs what is new.
// err contains the settings that can lose messages, or the reason why the streams could not be
// read. In the latter case the earlier findings still apply.
func (c *control) recordUnmanaged(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	var all streams.Contradictions
	if err != nil && !errors.As(err, &all) {
		c.unread.SetAs(zerolog.NoLevel, "", fmt.Errorf("the streams cannot be read, so their settings could not be checked: %w", err))
	} else {
		c.unread.Clear()
		c.addUnmanaged(all)
	}
	c.logged.note(c.unmanagedProblems())
}

func (c *control) addUnmanaged(all streams.Contradictions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Problem
	for _, f := range all {
		p := Problem{Component: "streams", Problem: f.Error(), Since: time.Now()}
		if i := slices.IndexFunc(c.unmanaged, func(w Problem) bool { return w.Problem == p.Problem }); i >= 0 {
			p.Since = c.unmanaged[i].Since
		}
		found = append(found, p)
	}
	c.unmanaged = found
}

func (c *control) unmanagedProblems() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(c.unread.Problems(), c.unmanaged...)
}
