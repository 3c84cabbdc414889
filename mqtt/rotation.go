package mqtt

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/mqtt/dial"
)

// serverRotation selects the listener of the broker to try next.
type serverRotation struct {
	servers []dial.Server
	next    int // index of the listener to try
	tried   int // listeners tried since the last pause
	// Since the last connection, by listener: the error, and the detected protocol.
	problems  map[string]error
	protocols map[string]dial.Protocol
}

func (t *serverRotation) server() dial.Server { return t.servers[t.next] }

// connected records that the listener accepted the session.
func (t *serverRotation) connected() { t.problems, t.protocols, t.tried = nil, nil, 0 }

// note records the error of the current listener. It returns the errors of all listeners tried, in
// the order of the list.
func (t *serverRotation) note(err error) error {
	if len(t.servers) == 1 {
		return err
	}
	if t.problems == nil {
		t.problems = map[string]error{}
	}
	t.problems[t.server().URL()] = err
	var all error
	for _, s := range t.servers {
		switch err := t.problems[s.URL()]; {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// advance is called at the end of each connection and failed attempt. It moves to the next listener
// if this one failed, and reports whether a pause is due because all were tried. After a working
// connection the same listener is tried again.
func (t *serverRotation) advance(err error) (pause bool) {
	var problem *dial.Problem
	if !errors.As(err, &problem) && !errors.Is(err, ErrSubscriptionRefused) {
		t.tried = 0
		return true
	}
	t.next = (t.next + 1) % len(t.servers)
	if t.tried++; t.tried < len(t.servers) {
		return false
	}
	t.tried = 0
	return true
}

// identified detects the protocol at an address, once.
func (t *serverRotation) identified(address string, ask func() dial.Protocol) dial.Protocol {
	found, asked := t.protocols[address]
	if !asked {
		if t.protocols == nil {
			t.protocols = map[string]dial.Protocol{}
		}
		found = ask()
		t.protocols[address] = found
	}
	return found
}
