package mqtt

import (
	"errors"
	"strings"

	"mqtt-nats-bridge/mqtt/dial"
)

// turns decides which of the broker's listeners is tried next.
type turns struct {
	servers []dial.Server
	at      int // the one to try
	tried   int // since the last pause
	// Since the last connection: what is wrong with each, and its detected protocol.
	problems map[string]error
	speaks   map[string]dial.Protocol
}

func (t *turns) server() dial.Server { return t.servers[t.at] }

// connected records that the listener has accepted the session.
func (t *turns) connected() { t.problems, t.speaks, t.tried = nil, nil, 0 }

// note records what is wrong with the listener, and returns what is wrong with all that were tried,
// in the order of the list.
func (t *turns) note(err error) error {
	if len(t.servers) == 1 {
		return err
	}
	if t.problems == nil {
		t.problems = map[string]error{}
	}
	t.problems[t.server().URL()] = err
	var all serverErrors
	for _, s := range t.servers {
		if err := t.problems[s.URL()]; err != nil {
			all = append(all, err)
		}
	}
	return all
}

// failed is called at the end of each connection and failed attempt. It moves to the next listener
// if this one failed, and reports whether a pause is due because all were tried. After a connection
// that worked, the same listener is next.
func (t *turns) failed(err error) (pause bool) {
	var problem *dial.Problem
	if !errors.As(err, &problem) && !errors.Is(err, ErrSubscriptionRefused) {
		t.tried = 0
		return true
	}
	t.at = (t.at + 1) % len(t.servers)
	if t.tried++; t.tried < len(t.servers) {
		return false
	}
	t.tried = 0
	return true
}

// identified detects the protocol at an address, once.
func (t *turns) identified(address string, ask func() dial.Protocol) dial.Protocol {
	found, asked := t.speaks[address]
	if !asked {
		if t.speaks == nil {
			t.speaks = map[string]dial.Protocol{}
		}
		found = ask()
		t.speaks[address] = found
	}
	return found
}

// serverErrors has what is wrong with several listeners.
type serverErrors []error

// Error implements error.
func (e serverErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns all errors, for errors.Is and errors.As.
func (e serverErrors) Unwrap() []error { return e }
