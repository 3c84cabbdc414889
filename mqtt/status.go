package mqtt

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/mqtt/dial"
)

// Status is a snapshot of a session.
type Status struct {
	ClientID       string `json:"client_id"`
	Connected      bool   `json:"connected"`
	Subscribed     bool   `json:"subscribed"` // every filter granted at QoS 1; if retiring, none left
	SessionPresent bool   `json:"session_present"`
	// Broker is the listener of the current or latest connection.
	Broker string `json:"broker,omitempty"`
	// Retiring means that the session has left its share group and drains its queue.
	Retiring bool      `json:"retiring,omitempty"`
	Since    time.Time `json:"since"` // start of the current state
	Granted  []string  `json:"granted,omitempty"`
	Refused  []string  `json:"refused,omitempty"`
	// Problem is a sentence for the operator; empty: no problem.
	Problem string `json:"problem,omitempty"`
	// Err is the error behind Problem, which explains why there is no connection or subscription;
	// nil: no problem.
	Err error `json:"-"`
	// Takeover means that the connection is taken over repeatedly, most likely by a second client
	// with the same client id.
	Takeover     bool   `json:"takeover,omitempty"`
	Connects     uint64 `json:"connects"`
	SessionsLost uint64 `json:"sessions_lost"` // reconnects without a session on the broker
	// SubscribedAt is when the filters were last known to be granted.
	SubscribedAt time.Time `json:"subscribed_at,omitzero"`
	// LostAt is when the latest session loss was detected.
	LostAt time.Time `json:"session_lost_at,omitzero"`
	// TakenOverAt is when the broker last closed only this lane's connection while it remained
	// reachable. This happens when another client connects with the same client id.
	TakenOverAt time.Time `json:"taken_over_at,omitzero"`
}

// Status returns the current state. Safe for concurrent use.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	if st.Connected && time.Since(st.Since) > settledAfter {
		st.Takeover = false
	}
	if st.Takeover && st.Err == nil {
		st.Err = ErrTakeover // until this connection has lasted long enough
	}
	return st
}

func (s *Session) setConnected(server dial.Server, sessionPresent bool) {
	s.mu.Lock()
	st := &s.status
	lostSession := (st.Connects > 0 || s.opts.HadSession) && !sessionPresent
	st.Connected, st.Subscribed, st.SessionPresent = true, false, sessionPresent
	st.Since, st.Broker = time.Now(), server.URL()
	st.Problem, st.Err = "waiting for the broker to grant the subscription", nil
	st.Connects++
	if lostSession {
		st.SessionsLost++
		st.LostAt = st.Since
	}
	onlyThis := !s.closedAt.IsZero()
	if onlyThis && s.opts.Peers.endedTogether(s.opts.ClientID, s.closedAt) {
		s.watch.remove(s.closedAt)
		onlyThis = false
	}
	if onlyThis && sessionPresent {
		st.TakenOverAt = st.Since
	}
	s.mu.Unlock()
	if lostSession {
		s.withAdvice(s.opts.Log.Error().Str("component", "mqtt"), ErrSessionLost).Str("client_id", s.opts.ClientID).
			Msg("the broker has lost the session: the messages queued for this client id are lost; see its session expiry, queue and memory settings")
	}
}

// setClosed records the final state.
func (s *Session) setClosed() {
	s.opts.Peers.leave(s.opts.ClientID)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	st.Connected, st.Subscribed, st.Takeover, st.Granted, st.Refused = false, false, false, nil, nil
	st.Since, st.Problem, st.Err = time.Now(), "closed", nil
}

// setLost records the end of a connection or a failed attempt, and logs it once per state change.
func (s *Session) setLost(lived time.Duration, err error) {
	s.mu.Lock()
	st := &s.status
	now := time.Now()
	takeover := s.watch.ended(now, lived, err)
	s.noteEnd(now, err)
	problem := err.Error()
	if takeover {
		err = fmt.Errorf("%w %s", ErrTakeover, s.opts.ClientID)
		problem = err.Error()
	}
	changed := st.Connected || problem != st.Problem
	first := takeover && !st.Takeover
	if st.Connected || st.Connects == 0 && st.Problem == "not connected yet" {
		st.Since = time.Now()
	}
	wasConnected := st.Connected
	st.Connected, st.Subscribed, st.Problem, st.Err, st.Takeover = false, false, problem, err, takeover
	st.Granted = nil
	if !errors.Is(err, ErrSubscriptionRefused) {
		st.Refused = nil
	}
	status := *st
	s.mu.Unlock()
	switch {
	case takeover && !first:
		// Already logged. A takeover loop would fill the log.
	case wasConnected:
		s.logProblem(zerolog.WarnLevel, "mqtt connection lost", &status, "lived_ms", lived)
	case changed:
		s.logProblem(zerolog.ErrorLevel, "mqtt not connected", &status)
	}
}

// logProblem logs the problem of a status: with the number of lanes, or at debug level while another
// of them has the same one.
func (s *Session) logProblem(level zerolog.Level, message string, st *Status, fields ...any) {
	repeated, lanes := s.opts.Peers.repeats(s.opts.ClientID, message+": "+st.Problem)
	if repeated {
		level = zerolog.DebugLevel
	}
	line := s.opts.Log.WithLevel(level).Str("component", "mqtt").Str("client_id", s.opts.ClientID).Str("problem", st.Problem)
	if lanes > 1 && !repeated {
		line.Int("lanes", lanes)
	}
	s.withAdvice(line, st.Err).Fields(fields).Msg(message)
}

// withAdvice adds the advice on an error to a log line.
func (s *Session) withAdvice(e *zerolog.Event, err error) *zerolog.Event {
	if s.opts.Advice != nil {
		if text := s.opts.Advice(err); text != "" {
			e.Str("advice", text)
		}
	}
	return e
}
