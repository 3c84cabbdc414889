package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"
)

// partialGrantTime is how long a connection with only some filters granted is kept. A broker may
// remember a refusal for the lifetime of the connection (EMQX's ACL cache), so the next attempt
// uses a new one.
const partialGrantTime = 30 * time.Second

// syncSubscriptions makes the broker's subscriptions equal to the filters. It returns nil when they
// are equal or when the connection ended first. It returns an error if the broker refused, which a
// new connection must retry.
func (s *Session) syncSubscriptions(client paho.Client, t *tap, stop <-chan struct{}, present bool) error {
	if s.opts.Retiring {
		s.retire(client, t, stop)
		return nil
	}
	m := &s.filters
	if !present {
		m.reset()
	}
	if m.complete && !s.mayBeTakenOver() && !slices.ContainsFunc(s.opts.Filters, isShared) {
		// Subscribing again would make the broker resend all retained messages [MQTT-3.8.4-3], for
		// which it may drop others.
		s.granted(nil)
		return nil
	}
	stale := m.stale(&s.opts)
	if err := s.subscribe(client, t, stop); err != nil || !s.isSubscribed() {
		return err
	}
	// SUBSCRIBE comes first: a message may arrive twice in between, but none is missed.
	if len(stale) > 0 {
		if !s.awaitToken(client.Unsubscribe(stale...), t, stop, "unsubscribe") {
			return nil
		}
		s.opts.Log.Info().Str("client_id", s.opts.ClientID).Strs("unsubscribed", stale).
			Msg("unsubscribed mqtt filters that are no longer configured")
	}
	s.logSaveError(m.afterSubscribe(&s.opts))
	return nil
}

// isShared reports whether a filter belongs to a share group. The broker sends no retained messages
// for it (MQTT 5 §4.8.2; EMQX 5.8 and mosquitto 2 also in 3.1.1). So subscribing again is free, and
// restores a subscription that another client may have removed.
func isShared(filter string) bool { return strings.HasPrefix(filter, "$share/") }

// mayBeTakenOver reports whether another client may have used the session since this process last
// did.
func (s *Session) mayBeTakenOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.TakenOverAt.After(s.status.SubscribedAt)
}

func (s *Session) isSubscribed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Subscribed
}

// subscribe sends SUBSCRIBE and waits for its answer.
func (s *Session) subscribe(client paho.Client, t *tap, stop <-chan struct{}) error {
	s.logSaveError(s.filters.beforeSubscribe(&s.opts))
	filters := make(map[string]byte, len(s.opts.Filters))
	for _, f := range s.opts.Filters {
		filters[f] = 1
	}
	token := client.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)
	if !s.awaitToken(token, t, stop, "subscribe") {
		return nil
	}
	granted, refused := s.granted(token.Result())
	if refused != nil && granted > 0 {
		select {
		case <-stop:
		case <-time.After(partialGrantTime):
		}
	}
	return refused
}

// awaitToken waits for the answer to a SUBSCRIBE or UNSUBSCRIBE. It returns false if the connection
// has ended or must be closed.
func (s *Session) awaitToken(token paho.Token, t *tap, stop <-chan struct{}, what string) bool {
	if !t.awaitAnswer(token.Done(), stop) {
		return false
	}
	if err := token.Error(); err != nil {
		select {
		case <-stop:
		default:
			// Most likely the connection has ended.
			t.closeBecause(fmt.Errorf("%s: %w", what, err))
		}
		return false
	}
	return true
}

// logSaveError logs that the filters cannot be stored. The bridge works without the file: after a
// restart it subscribes once more than necessary.
func (s *Session) logSaveError(err error) {
	if err != nil {
		s.opts.Log.Warn().Str("component", "mqtt").Err(err).Str("client_id", s.opts.ClientID).Msg("mqtt filters cannot be stored")
	}
}

// retire removes the session from its share group (§3.10). The messages in its queue stay there
// [MQTT-3.10.4-3].
func (s *Session) retire(client paho.Client, t *tap, stop <-chan struct{}) {
	if !s.awaitToken(client.Unsubscribe(s.opts.Filters...), t, stop, "unsubscribe") {
		return
	}
	s.mu.Lock()
	s.status.Subscribed, s.status.Retiring, s.status.Problem = true, true, ""
	present := s.status.SessionPresent
	s.mu.Unlock()
	s.opts.Peers.recovered(s.opts.ClientID)
	s.opts.Log.Info().Str("client_id", s.opts.ClientID).Bool("session_present", present).
		Strs("unsubscribed", s.opts.Filters).Msg("mqtt connected, retiring, no new messages for this session")
}

// granted records the SUBACK's return codes (§3.9.3). nil means that the filters are still granted
// from before. It returns the number of filters granted at any QoS, and a [SubscriptionError] if
// one is not granted at QoS 1.
func (s *Session) granted(codes map[string]byte) (count int, err error) {
	var granted, refused []string
	for _, f := range s.opts.Filters {
		code := byte(1)
		if codes != nil {
			code = codes[f]
		}
		if code <= 1 {
			count++
		}
		if code == 1 {
			granted = append(granted, f)
			continue
		}
		e := &SubscriptionError{f, code}
		refused = append(refused, e.short())
		if err == nil {
			err = e
		}
	}
	s.mu.Lock()
	st := &s.status
	same := slices.Equal(st.Refused, refused)
	st.Granted, st.Refused = granted, refused
	st.Subscribed, st.Err = err == nil, err
	if st.Subscribed {
		st.Problem, st.SubscribedAt = "", time.Now()
	} else {
		st.Problem = err.Error()
	}
	present, status := st.SessionPresent, *st
	s.opts.Peers.subscribe(s.opts.ClientID, st.Subscribed)
	s.mu.Unlock()
	switch {
	case err == nil:
		s.opts.Peers.recovered(s.opts.ClientID)
		s.opts.Log.Info().Str("client_id", s.opts.ClientID).Str("broker", status.Broker).Bool("session_present", present).
			Strs("granted", granted).Msg("mqtt connected")
	case !same:
		s.logProblem(zerolog.ErrorLevel, "mqtt subscription refused", &status, "granted", granted, "refused", refused)
	}
	return count, err
}
