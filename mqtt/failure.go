package mqtt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"mqtt-nats-bridge/mqtt/dial"
)

var (
	// ErrSubscriptionRefused means that the broker refused SUBSCRIBE, or answered by closing the
	// connection.
	ErrSubscriptionRefused = errors.New("the broker refused the subscription")
	// ErrClosedByBroker means that the broker closed a working connection. In MQTT 3.1.1 a takeover
	// of the client id looks the same.
	ErrClosedByBroker = errors.New("connection closed by the broker")
	// ErrTakeover means that the connection is taken over repeatedly. The client id follows the
	// text.
	ErrTakeover = errors.New("the broker keeps closing the connection soon after accepting it: another client seems to use the client id")
	// ErrSessionLost means that the broker created a new session for a client id that had one. The
	// messages queued in the old session are lost.
	ErrSessionLost = errors.New("the broker has lost the session")
)

// SubscriptionError means that the broker did not grant a filter at QoS 1. It is an
// [ErrSubscriptionRefused].
type SubscriptionError struct {
	Filter string
	Code   byte // of the SUBACK; 0: granted at QoS 0
}

// Error returns a sentence that names the filter.
func (e *SubscriptionError) Error() string {
	return ErrSubscriptionRefused.Error() + " to " + e.short()
}

// Is implements errors.Is.
func (e *SubscriptionError) Is(target error) bool { return target == ErrSubscriptionRefused }

func (e *SubscriptionError) short() string {
	if e.Code == 0 {
		return e.Filter + " (granted at QoS 0 only: messages could be lost)"
	}
	return fmt.Sprintf("%s (return code 0x%02x: not allowed for this user, see the broker's ACL)", e.Filter, e.Code)
}

// cause removes paho's wrapping, which begins with "network Error".
func cause(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		if all := many.Unwrap(); len(all) > 0 {
			return all[len(all)-1]
		}
	}
	return err
}

// tapError returns the tap's error if there is one, because it is more specific than paho's.
func tapError(t *tap, err error) error {
	if t == nil {
		return err
	}
	select {
	case <-t.ended:
		if !errors.Is(t.err, errClosedHere) {
			return t.err
		}
	default:
	}
	return err
}

// newAttempt describes a connection attempt of paho. t is its connection; nil: none was opened.
func newAttempt(server dial.Server, login *dial.Login, connack byte, t *tap, err error) *dial.Attempt {
	a := &dial.Attempt{Server: server, Login: login, Connack: connack}
	if t != nil {
		a.Received = t.firstBytes()
	}
	setError(a, cause(tapError(t, err)))
	return a
}

// setError records why an attempt failed.
func setError(a *dial.Attempt, err error) {
	a.Err, a.NotMQTT = err, errors.Is(err, ErrMalformed) || errors.Is(err, ErrProtocol)
}

// endReason returns why an established connection ended. If the tap was closed by this side, the
// reason is paho's (no ping response). It arrives from another goroutine, so endReason waits for it
// briefly.
func endReason(t *tap, lost <-chan error) error {
	err := t.err
	if errors.Is(err, errClosedHere) {
		select {
		case err = <-lost:
		case <-time.After(time.Second):
		}
		return err
	}
	if dial.IsClosed(err) {
		return ErrClosedByBroker
	}
	return err
}

// errNoSuback means that the broker did not answer SUBSCRIBE, although MQTT 3.1.1 requires it
// [MQTT-3.8.4-1].
var errNoSuback = errors.New("the broker does not answer SUBSCRIBE or UNSUBSCRIBE")

// backoff calculates the pause between connection attempts. The first three attempts after a
// connection are quick, then the pause doubles up to maxPause. Connections that do not last count
// as failed attempts. After a refusal the pause starts at one second, because a broker that has
// just started may refuse clients that it accepts a moment later.
type backoff struct {
	failures   int       // consecutive attempts without a connection
	short      int       // consecutive connections that did not last
	refusals   int       // consecutive refusals
	lastWorked time.Time // when a working connection last ended
}

const (
	firstPause   = 200 * time.Millisecond
	refusedPause = time.Second
	maxPause     = 15 * time.Second
	// recentPause is the maximum pause if a connection worked less than recently ago. In that case
	// the broker is probably restarting, and its devices reconnect within a second.
	recentPause = 1600 * time.Millisecond
	recently    = 5 * time.Minute
	// settledAfter is how long a connection must last to count as working. It exceeds every pause,
	// because a connection that another bridge takes over after its own pause lasts that long.
	settledAfter = 2 * maxPause
)

// next returns the pause before the next attempt, with jitter so that the lanes of a fleet do not
// reconnect at the same instant.
func (b *backoff) next(now time.Time, lived time.Duration, err error) time.Duration {
	attempts := &b.failures
	switch {
	case lived >= settledAfter:
		b.failures, b.short, b.lastWorked = 0, 0, now
	case lived > 0 && !refusal(err):
		// Attempts during an earlier outage do not delay this one.
		attempts, b.failures = &b.short, 0
	}
	*attempts++
	d := min(maxPause, firstPause<<min(max(*attempts-3, 0), 10))
	if refusal(err) {
		d = min(maxPause, refusedPause<<min(b.refusals, 10))
		b.refusals++
	} else {
		b.refusals = 0
	}
	// Two bridges with one client id must not take it over from each other at that rate.
	contested := errors.Is(err, ErrClosedByBroker) && lived < settledAfter
	if !contested && !b.lastWorked.IsZero() && now.Sub(b.lastWorked) < recently {
		d = min(d, recentPause)
	}
	return d*3/4 + rand.N(d/2)
}

// refusal reports whether the broker answered and refused the client.
func refusal(err error) bool {
	return errors.Is(err, ErrSubscriptionRefused) || errors.Is(err, dial.ErrCredentials) || errors.Is(err, dial.ErrRefused)
}
