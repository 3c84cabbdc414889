// Package health keeps what is wrong with a part of a program, since when, and what can be
// done about it, and logs when that begins and ends.
package health

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
)

// Options describe a condition. Component is required.
type Options struct {
	Component string
	Log       zerolog.Logger
	// Failed is the message of the log when there is an error, and again when its text is
	// another; empty: none.
	Failed string
	Warn   bool // Failed is a warning, not an error
	Once   bool // another text is no news: it varies
	// Ended is the message of the log when there is no error any more; empty: none.
	Ended string
	// Fields adds to the lines of the log, to that of Ended with no error; nil: nothing.
	Fields func(*zerolog.Event, error)
	// Advice is what can be done about an error; nil: [advice.For].
	Advice func(error) string
	// Initial is an error that is not logged; nil: in order from the start.
	Initial error
}

// Condition is one thing that a program needs: in order, or in the way of an error since
// some time. It is modelled on the conditions of Kubernetes. Safe for concurrent use.
type Condition struct {
	o Options

	mu    sync.Mutex
	err   error     // nil: in order
	since time.Time // of that
}

// New returns a condition.
func New(o Options) *Condition {
	if o.Advice == nil {
		o.Advice = advice.For
	}
	return &Condition{o: o, err: o.Initial, since: time.Now()}
}

// Set notes an error, or with nil that there is none, and logs a change.
func (c *Condition) Set(err error) {
	if err == nil {
		c.Clear()
		return
	}
	level := zerolog.ErrorLevel
	if c.o.Warn {
		level = zerolog.WarnLevel
	}
	c.SetAs(level, c.o.Failed, err)
}

// SetAs is [Condition.Set] with a message of its own; empty: nothing is logged.
func (c *Condition) SetAs(level zerolog.Level, message string, err error) {
	c.mu.Lock()
	before := c.err
	if before == nil {
		c.since = time.Now()
	}
	c.err = err
	c.mu.Unlock() // a log that is slow must not keep /readyz waiting
	known := before != nil && (c.o.Once || before.Error() == err.Error())
	if known || message == "" {
		return
	}
	line := c.o.Log.WithLevel(level).Str("component", c.o.Component).AnErr("problem", err).Func(advice.Field(c.o.Advice(err)))
	c.log(line, message, err)
}

// Clear notes that there is no error any more.
func (c *Condition) Clear() {
	c.mu.Lock()
	before, lasted := c.err, time.Since(c.since)
	if before != nil {
		c.err, c.since = nil, time.Now()
	}
	c.mu.Unlock()
	if before != nil && c.o.Ended != "" {
		c.log(c.o.Log.Info().Str("component", c.o.Component).Int64("after_ms", lasted.Milliseconds()), c.o.Ended, nil)
	}
}

func (c *Condition) log(line *zerolog.Event, message string, err error) {
	if c.o.Fields != nil {
		c.o.Fields(line, err)
	}
	line.Msg(message)
}

// Err is what is wrong; nil: nothing. No condition at all is in order.
func (c *Condition) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Problems is the condition as /readyz shows it: one problem, or none where it is in order.
func (c *Condition) Problems() []Problem {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil
	}
	return []Problem{{Component: c.o.Component, Problem: c.err.Error(), Advice: c.o.Advice(c.err), Since: c.since}}
}
