package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// takeoverWatch notices two clients fighting over one client id: the broker
// closes the older connection each time (MQTT 3.1.1 [MQTT-3.1.4-2]).
type takeoverWatch struct{ ends []time.Time }

const (
	takeoverEnds   = 4
	takeoverWithin = 5 * time.Minute
)

// ended notes the end of a connection or a failed attempt and tells whether it looks
// like a takeover loop. In one the broker is there all the time: a failed attempt
// in between says that it was restarting instead.
func (w *takeoverWatch) ended(now time.Time, lived time.Duration, err error) bool {
	switch {
	case errors.Is(err, ErrClosedByBroker):
		if lived < settledAfter {
			w.ends = append(w.ends, now)
		}
	case lived == 0 || refusal(err):
		w.ends = nil
	}
	for len(w.ends) > 0 && now.Sub(w.ends[0]) > takeoverWithin {
		w.ends = w.ends[1:]
	}
	return len(w.ends) >= takeoverEnds
}

// forgive drops the latest end: the other lanes' connections ended with it.
func (w *takeoverWatch) forgive(at time.Time) {
	w.ends = slices.DeleteFunc(w.ends, at.Equal)
}

// unansweredEnds is how many connections in a row may end without CONNACK or SUBACK
// and count as taken over, after one that worked was closed. Two clients that fight
// over a client id meet in that window now and then; a broker that refuses closes
// every connection there.
const unansweredEnds = 2

// noteEnd notes the end of a connection or a failed attempt. mu is held.
func (s *Session) noteEnd(now time.Time, err error) {
	s.closedAt = time.Time{}
	switch {
	case !errors.Is(err, ErrClosedByBroker):
		s.unanswered = 0
		return
	case s.status.Subscribed:
		s.unanswered = unansweredEnds
	case s.unanswered > 0:
		s.unanswered--
	}
	s.closedAt = now
	s.opts.Peers.end(s.opts.ClientID, now)
}

// closedEarly names a connection that the broker closed instead of answering. It is a
// takeover where the broker closed the connection before it as well, and not those of
// the other lanes, or has kept the session: it is then not restarting.
func (s *Session) closedEarly(refusal error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	if s.unanswered > 0 && (st.Connected && st.SessionPresent || !s.opts.Peers.together(s.opts.ClientID, s.closedAt)) {
		return ErrClosedByBroker
	}
	return refusal
}

// endedEarly names a connection that the broker closed before it answered SUBSCRIBE.
// EMQX's deny_action = disconnect does that.
func (s *Session) endedEarly(t *tap, err error) error {
	if !errors.Is(err, ErrClosedByBroker) || s.opts.Retiring || s.isSubscribed() || t.granted.Load() {
		return err
	}
	return s.closedEarly(fmt.Errorf("%w to %s: it closed the connection instead of answering SUBSCRIBE", ErrSubscriptionRefused, s.opts.Filters[0]))
}
