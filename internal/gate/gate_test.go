package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
	"mqtt-nats-bridge/internal/gate"
)

const listener = "ssl:default"

// closed is an EMQX after its start, with a closed listener and connected lanes.
func closed(t *testing.T) (*emqxtest.API, gate.Options) {
	t.Helper()
	api := emqxtest.Start(t)
	api.Change(func(s *emqxtest.State) {
		s.Listeners[listener] = emqx.Listener{}
		for _, id := range []string{"bridge-p0", "bridge-p1"} {
			s.Sessions[id] = emqx.Session{ClientID: id, Connected: true}
		}
	})
	client := emqx.New(emqx.Options{API: api.URL, Key: emqxtest.Key, Secret: func() (string, error) { return emqxtest.Secret, nil }})
	t.Cleanup(client.Close)
	return api, gate.Options{
		EMQX: client, Listener: listener, Lanes: []string{"bridge-p0", "bridge-p1"}, Prefix: "bridge/v1",
		Ready: func(context.Context) error { return nil }, Log: zerolog.Nop(),
	}
}

func isOpen(api *emqxtest.API) (open bool) {
	api.Change(func(s *emqxtest.State) { open = s.Listeners[listener].Running })
	return open
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("everything is ready", func(t *testing.T) {
		t.Parallel()
		api, opts := closed(t)
		require.NoError(t, gate.Open(t.Context(), opts))
		require.True(t, isOpen(api))
		require.NoError(t, gate.Open(t.Context(), opts))
		api.Change(func(s *emqxtest.State) { require.Equal(t, 1, s.Starts, "an open listener is left alone") })
	})
	for name, step := range map[string]struct {
		state func(*emqxtest.State)
		ready error
		want  string
	}{
		"a lane is missing":       {func(s *emqxtest.State) { delete(s.Sessions, "bridge-p1") }, nil, "1 of 2 lanes are not connected to EMQX: bridge-p1"},
		"a lane is disconnected":  {func(s *emqxtest.State) { s.Sessions["bridge-p0"] = emqx.Session{ClientID: "bridge-p0"} }, nil, "1 of 2 lanes are not connected to EMQX: bridge-p0"},
		"the rule is not loaded":  {func(s *emqxtest.State) { s.Rules = nil }, nil, "no enabled rule that republishes to bridge/v1/"},
		"another rule is":         {func(s *emqxtest.State) { s.Rules[0].Actions = []json.RawMessage{[]byte(`"http:x"`)} }, nil, "no enabled rule"},
		"the bridge is not ready": {func(*emqxtest.State) {}, errors.New("subscription refused"), "subscription refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, opts := closed(t)
			api.Change(step.state)
			opts.Ready = func(context.Context) error { return step.ready }
			err := gate.Open(t.Context(), opts)
			require.ErrorIs(t, err, gate.ErrNotReady)
			require.ErrorContains(t, err, step.want)
			require.False(t, isOpen(api))
		})
	}
	t.Run("no such listener", func(t *testing.T) {
		t.Parallel()
		_, opts := closed(t)
		opts.Listener = "ssl:devices"
		require.ErrorIs(t, gate.Open(t.Context(), opts), emqx.ErrNotFound)
	})
}

// events is a log that a test waits on.
type events struct{ child.Log }

func (e *events) count(text string) int { return strings.Count(e.String(), text) }

func TestRunEMQXRestart(t *testing.T) {
	t.Parallel()
	api, opts := closed(t)
	log := &events{}
	opts.Log = zerolog.New(log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- gate.Run(ctx, opts) }()
	eventually := func(what func() bool) { require.Eventually(t, what, 2*time.Minute, 10*time.Millisecond) }
	eventually(func() bool { return isOpen(api) })

	api.Change(func(s *emqxtest.State) { s.Fail = 503 })
	eventually(func() bool { return log.count("EMQX API unavailable") == 1 })
	api.Change(func(s *emqxtest.State) {
		s.Fail, s.Sessions = 0, map[string]emqx.Session{} // a restart loses the sessions
		s.Listeners[listener] = emqx.Listener{}
	})
	eventually(func() bool { return log.count("listener closed, waiting") == 1 })
	require.False(t, isOpen(api))
	api.Change(func(s *emqxtest.State) {
		for _, id := range opts.Lanes {
			s.Sessions[id] = emqx.Session{ClientID: id, Connected: true}
		}
	})
	eventually(func() bool { return isOpen(api) && log.count("listener open") == 2 })
	cancel()
	require.NoError(t, <-done)
}
