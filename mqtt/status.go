package mqtt

import (
	"time"
)

// Status is what is known of a session at one moment.
type Status struct {
	ClientID       string `json:"client_id"`
	Connected      bool   `json:"connected"`
	Subscribed     bool   `json:"subscribed"` // every filter granted at QoS 1, or, retiring, none any more
	SessionPresent bool   `json:"session_present"`
	// Retiring: the session is out of its share group, and runs empty.
	Retiring bool      `json:"retiring,omitempty"`
	Since    time.Time `json:"since"` // of the present state
	Granted  []string  `json:"granted,omitempty"`
	Refused  []string  `json:"refused,omitempty"`
	// Problem is one sentence for the operator, empty where all is well.
	Problem string `json:"problem,omitempty"`
	// Takeover: the connection is taken over again and again, most likely
	// by a second client with the same client id.
	Takeover     bool   `json:"takeover,omitempty"`
	Connects     uint64 `json:"connects"`
	SessionsLost uint64 `json:"sessions_lost"` // reconnects without a session at the broker
}

// Status returns the present state. Safe for concurrent use.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	if st.Connected && time.Since(st.Since) > settledAfter {
		st.Takeover = false
	}
	return st
}

func (s *Session) connected(sessionPresent bool) {
	s.mu.Lock()
	st := &s.status
	lostSession := (st.Connects > 0 || s.opts.HadSession) && !sessionPresent
	st.Connected, st.Subscribed, st.SessionPresent = true, false, sessionPresent
	st.Since = time.Now()
	st.Problem = "waiting for the broker to grant the subscription"
	st.Connects++
	if lostSession {
		st.SessionsLost++
	}
	s.mu.Unlock()
	if lostSession {
		s.opts.Log.Error().Str("client_id", s.opts.ClientID).
			Msg("the broker has lost the session: what it had queued for this client id is gone; see its session expiry, queue and memory settings")
	}
}

// closed is the last state.
func (s *Session) closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	st.Connected, st.Subscribed, st.Takeover, st.Granted, st.Refused = false, false, false, nil, nil
	st.Since, st.Problem = time.Now(), "closed"
}

// lost notes the end of a connection or a failed attempt, and logs it once per
// state change.
func (s *Session) lost(lived time.Duration, err error) {
	s.mu.Lock()
	st := &s.status
	takeover := s.watch.ended(time.Now(), lived, err)
	problem := err.Error()
	if takeover {
		problem = "the broker keeps closing the connection soon after accepting it: another client seems to use the client id " + s.opts.ClientID
	}
	changed := st.Connected || problem != st.Problem
	news := takeover && !st.Takeover
	if st.Connected || st.Connects == 0 && st.Problem == "not connected yet" {
		st.Since = time.Now()
	}
	was := st.Connected
	st.Connected, st.Subscribed, st.Problem, st.Takeover = false, false, problem, takeover
	st.Granted, st.Refused = nil, nil
	s.mu.Unlock()
	switch {
	case takeover && !news:
		// Said already: the loop would fill the log.
	case was:
		s.opts.Log.Warn().Str("client_id", s.opts.ClientID).Str("problem", problem).
			Dur("lived_ms", lived).Msg("mqtt connection lost")
	case changed:
		s.opts.Log.Error().Str("client_id", s.opts.ClientID).Str("problem", problem).Msg("mqtt not connected")
	}
}
