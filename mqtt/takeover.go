package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// takeoverWatch detects two clients that use one client id: the broker closes the older connection
// each time (MQTT 3.1.1 [MQTT-3.1.4-2]).
type takeoverWatch struct{ ends []time.Time }

const (
	takeoverEnds   = 4
	takeoverWithin = 5 * time.Minute
)

// ended records the end of a connection or a failed attempt, and reports whether it looks like a
// takeover loop. In such a loop the broker is always reachable: a failed attempt in between means
// that it was restarting instead.
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

// forgive drops the latest end: the other lanes' connections ended at the same time.
func (w *takeoverWatch) forgive(at time.Time) {
	w.ends = slices.DeleteFunc(w.ends, at.Equal)
}

// unansweredEnds is how many consecutive connections without CONNACK or SUBACK count as taken over,
// after a working one was closed and after a start. Two clients with one client id meet in that
// window now and then; a broker that refuses closes every connection there.
const unansweredEnds = 2

// noteEnd records the end of a connection or a failed attempt. mu is held.
func (s *Session) noteEnd(now time.Time, err error) {
	s.closedAt = time.Time{}
	s.opts.Peers.subscribe(s.opts.ClientID, false)
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

// closedEarly returns the error for a connection that the broker closed instead of answering.
func (s *Session) closedEarly(refusal error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unanswered > 0 && s.contested() {
		return ErrClosedByBroker
	}
	return refusal
}

// contested reports whether another client may have taken the session over. Either the broker also
// closed the previous connection and is not restarting, since it has kept the session or the other
// lanes; or it has a session from before this process and lets the other lanes subscribe. mu is
// held.
func (s *Session) contested() bool {
	kept := s.status.Connected && s.status.SessionPresent
	if s.closedAt.IsZero() {
		return kept && s.opts.Peers.served(s.opts.ClientID)
	}
	return kept || !s.opts.Peers.together(s.opts.ClientID, s.closedAt)
}

// endedEarly returns the error for a connection that the broker closed before it answered
// SUBSCRIBE, as EMQX does with deny_action = disconnect.
func (s *Session) endedEarly(t *tap, err error) error {
	if !errors.Is(err, ErrClosedByBroker) || s.opts.Retiring || s.isSubscribed() || t.granted.Load() {
		return err
	}
	return s.closedEarly(fmt.Errorf("%w to %s: it closed the connection instead of answering SUBSCRIBE", ErrSubscriptionRefused, s.opts.Filters[0]))
}
