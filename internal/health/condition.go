// Package health tracks the problems of a program's parts: the error, its start and the advice. It
// logs when a problem starts and ends.
package health

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
)

// Options configures a condition. Component is required.
type Options struct {
	Component string
	Log       zerolog.Logger
	// Failed is the log message when an error occurs or its text changes; empty: none.
	Failed string
	Warn   bool // log Failed as a warning instead of an error
	Once   bool // do not log a change of the error's text
	// Ended is the log message when the error has ended; empty: none.
	Ended string
	// Fields adds fields to the log lines. For Ended the error is nil.
	Fields func(*zerolog.Event, error)
	// Advice returns the advice about an error; nil: [advice.For].
	Advice func(error) string
	// Initial is the error at the start. It is not logged. nil: healthy.
	Initial error
}

// Condition is the state of one thing that a program needs: healthy, or in error since some time. It
// is modelled on Kubernetes conditions and is safe for concurrent use.
type Condition struct {
	o Options

	mu    sync.Mutex
	err   error     // nil: healthy
	since time.Time // when this state started
}

// New returns a condition.
func New(o Options) *Condition {
	if o.Advice == nil {
		o.Advice = advice.For
	}
	return &Condition{o: o, err: o.Initial, since: time.Now()}
}

// Set records an error, or with nil its end, and logs a change.
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

// SetAs records an error like [Condition.Set], with a different log message; empty: no log line.
func (c *Condition) SetAs(level zerolog.Level, message string, err error) {
	c.mu.Lock()
	before := c.err
	if before == nil {
		c.since = time.Now()
	}
	c.err = err
	c.mu.Unlock() // a slow log must not block /readyz
	known := before != nil && (c.o.Once || before.Error() == err.Error())
	if known || message == "" {
		return
	}
	line := c.o.Log.WithLevel(level).Str("component", c.o.Component).AnErr("problem", err).Func(advice.Field(c.o.Advice(err)))
	c.log(line, message, err)
}

// Clear records that the error has ended.
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

// Err returns the current error, or nil. A nil condition is healthy.
func (c *Condition) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Problems returns the condition as /readyz shows it: one problem, or none if it is healthy.
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
