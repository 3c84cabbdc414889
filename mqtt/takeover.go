package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// takeoverWatch detects two clients with one client id: the broker closes the older connection each
// time [MQTT-3.1.4-2].
type takeoverWatch struct{ ends []time.Time }

const (
	takeoverEnds   = 4
	takeoverWithin = 5 * time.Minute
)

// ended records the end of a connection or a failed attempt, and reports whether it looks like a
// takeover loop. In such a loop the broker is always reachable. A failed attempt in between means
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

// remove drops the end at that time, because the connections of other lanes ended with it.
func (w *takeoverWatch) remove(at time.Time) {
	w.ends = slices.DeleteFunc(w.ends, at.Equal)
}

// unansweredEnds is the number of consecutive connections without CONNACK or SUBACK that count as
// taken over, after a start and after a working connection was closed. Two clients with one client
// id collide in that window now and then, whereas a broker that refuses closes every connection
// there.
const unansweredEnds = 2

// noteEnd records the end of a connection or a failed attempt. The caller holds mu.
func (s *Session) noteEnd(now time.Time, err error) {
	s.closedAt = time.Time{}
	s.opts.Peers.subscribe(s.opts.ClientID, false)
	switch {
	case !errors.Is(err, ErrClosedByBroker):
		s.unansweredLeft = 0
		return
	case s.status.Subscribed:
		s.unansweredLeft = unansweredEnds
	case s.unansweredLeft > 0:
		s.unansweredLeft--
	}
	s.closedAt = now
	s.opts.Peers.end(s.opts.ClientID, now)
}

// closedEarly returns the error for a connection that the broker closed instead of answering.
func (s *Session) closedEarly(refusal error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unansweredLeft > 0 && s.contested() {
		return ErrClosedByBroker
	}
	return refusal
}

// contested reports whether another client may have taken over the session. There are two cases.
// Either the broker also closed the previous connection but is not restarting, because it kept the
// session or the other lanes. Or it has a session from before this process, and lets the other
// lanes subscribe. The caller holds mu.
func (s *Session) contested() bool {
	sessionKept := s.status.Connected && s.status.SessionPresent
	if s.closedAt.IsZero() {
		return sessionKept && s.opts.Peers.otherSubscribed(s.opts.ClientID)
	}
	return sessionKept || !s.opts.Peers.endedTogether(s.opts.ClientID, s.closedAt)
}

// endedEarly returns the error for a connection that the broker closed before it answered
// SUBSCRIBE, as EMQX does with deny_action = disconnect.
func (s *Session) endedEarly(t *tap, err error) error {
	if !errors.Is(err, ErrClosedByBroker) || s.opts.Retiring || s.isSubscribed() || t.granted.Load() {
		return err
	}
	return s.closedEarly(fmt.Errorf("%w to %s: it closed the connection instead of answering SUBSCRIBE", ErrSubscriptionRefused, s.opts.Filters[0]))
}
