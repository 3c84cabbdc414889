// Package lanelog logs what all lanes report at the same time once.
package lanelog

import (
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/jetstream/conn"
)

// Connections is the log of the lanes' connections to NATS. Without a server all have
// the same problem, which the control connection logs: one of a lane is logged while control
// is connected, once for all lanes that have it.
type Connections struct {
	log zerolog.Logger

	mu      sync.Mutex
	control bool                    // is connected
	failing map[string]conn.Problem // by client id
	logged  map[string]bool         // by the problem's text
}

// NewConnections returns the log of connections that have not been opened yet.
func NewConnections(log zerolog.Logger) *Connections {
	return &Connections{log: log, failing: map[string]conn.Problem{}, logged: map[string]bool{}}
}

// Hooks returns those of one lane's connection.
func (l *Connections) Hooks(lane string) conn.Hooks {
	up := func(*nats.Conn) { l.set(lane, nil) }
	return conn.Hooks{
		Connected: up, Reconnected: up,
		ConnectFailed: func(p conn.Problem) { l.set(lane, &p) },
	}
}

// set notes what is wrong with a lane's connection; nil: nothing.
func (l *Connections) set(lane string, p *conn.Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p == nil {
		delete(l.failing, lane)
	} else {
		l.failing[lane] = *p
	}
	l.write()
}

// Forget drops a lane that is closed.
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

// ControlIs notes whether control is connected.
func (l *Connections) ControlIs(connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control = connected
	l.write()
}

// write logs what is new. l.mu is held.
func (l *Connections) write() {
	for lane, p := range l.failing {
		text := p.Error()
		if l.control && !l.logged[text] {
			l.logged[text] = true
			l.log.Warn().Str("component", "nats").Str("lane", lane).Str("kind", p.Kind.String()).Str("cause", p.Cause.String()).
				Str("problem", text).Func(advice.Field(advice.For(p))).Msg("lane not connected to nats")
		}
	}
	for text := range l.logged {
		if !l.anyHas(text) {
			delete(l.logged, text)
			if l.control {
				l.log.Info().Str("component", "nats").Str("problem", text).Msg("all lanes connected to nats again")
			}
		}
	}
}

// Problem returns why the lane has no connection; false: it has one, or nothing has failed
// yet.
func (l *Connections) Problem(lane string) (p conn.Problem, failing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, failing = l.failing[lane]
	return p, failing
}
