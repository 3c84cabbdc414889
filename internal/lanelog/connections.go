// Package lanelog logs a problem that several lanes report only once.
package lanelog

import (
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/jetstream/conn"
)

// Connections logs the problems of the lanes' connections to NATS. If no server is reachable, all
// lanes have the same problem, and only the control connection logs it. While the control
// connection is up, each problem is logged once for all lanes that have it.
type Connections struct {
	log zerolog.Logger

	writing sync.Mutex              // acquired before mu, so that lines are in the order of the changes
	mu      sync.Mutex              // not held while a line is written: /readyz waits for it
	control bool                    // the control connection is up
	failing map[string]conn.Problem // by client id
	logged  map[string]bool         // by the problem's text
}

// NewConnections returns a Connections without lanes.
func NewConnections(log zerolog.Logger) *Connections {
	return &Connections{log: log, failing: map[string]conn.Problem{}, logged: map[string]bool{}}
}

// Hooks returns the hooks of one lane's connection.
func (l *Connections) Hooks(lane string) conn.Hooks {
	up := func(*nats.Conn) {
		l.change(func() { delete(l.failing, lane) })
	}
	return conn.Hooks{
		Connected: up, Reconnected: up,
		ConnectFailed: func(p conn.Problem) {
			l.change(func() { l.failing[lane] = p })
		},
	}
}

// Forget removes a closed lane.
func (l *Connections) Forget(lane string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, failing := l.failing[lane]
	delete(l.failing, lane)
	if failing && !l.anyHas(p.Error()) {
		delete(l.logged, p.Error())
	}
}

func (l *Connections) anyHas(text string) bool {
	for _, p := range l.failing {
		if p.Error() == text {
			return true
		}
	}
	return false
}

// ControlIs records whether the control connection is up.
func (l *Connections) ControlIs(connected bool) {
	l.change(func() { l.control = connected })
}

// change applies a change, then logs new and resolved problems.
func (l *Connections) change(apply func()) {
	l.writing.Lock()
	defer l.writing.Unlock()
	for _, line := range l.changed(apply) {
		line()
	}
}

// changed returns the lines to write after a change.
func (l *Connections) changed(apply func()) (lines []func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	apply()
	for lane, p := range l.failing {
		text := p.Error()
		if l.control && !l.logged[text] {
			l.logged[text] = true
			lines = append(lines, func() {
				l.log.Warn().Str("component", "nats").Str("lane", lane).Str("kind", string(p.Kind)).Str("cause", string(p.Cause)).
					Str("problem", text).Func(advice.Field(advice.For(p))).Msg("lane not connected to nats")
			})
		}
	}
	for text := range l.logged {
		if l.anyHas(text) {
			continue
		}
		delete(l.logged, text)
		if l.control {
			lines = append(lines, func() {
				l.log.Info().Str("component", "nats").Str("problem", text).Msg("all lanes connected to nats again")
			})
		}
	}
	return lines
}

// Problem returns the reason why the lane is not connected. failing is false if it is connected, or
// no attempt has failed yet.
func (l *Connections) Problem(lane string) (p conn.Problem, failing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, failing = l.failing[lane]
	return p, failing
}
