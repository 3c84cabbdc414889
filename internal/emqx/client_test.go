package emqx_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
)

func client(api *emqxtest.API, secret *string) *emqx.Client {
	return emqx.New(emqx.Options{API: api.URL, Key: emqxtest.Key, Secret: func() (string, error) { return *secret, nil }})
}

func TestClient(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*emqxtest.API, *emqx.Client, *string) {
		t.Helper()
		api, secret := emqxtest.Start(t), emqxtest.Secret
		c := client(api, &secret)
		t.Cleanup(c.Close)
		return api, c, &secret
	}
	t.Run("sessions of many client ids", func(t *testing.T) {
		t.Parallel()
		api, c, _ := start(t)
		var ids []string
		api.Change(func(s *emqxtest.State) {
			for i := range 200 {
				id := fmt.Sprintf("bridge-%d", i)
				ids = append(ids, id)
				if i != 7 {
					s.Sessions[id] = emqx.Session{ClientID: id, QueueLength: int64(i), QueueLimit: 1000}
				}
			}
		})
		sessions, err := c.Sessions(t.Context(), ids)
		require.NoError(t, err)
		require.Len(t, sessions, 199)
		require.EqualValues(t, 150, sessions["bridge-150"].QueueLength)
		require.NotContains(t, sessions, "bridge-7")
	})
	t.Run("the secret is read for each request", func(t *testing.T) {
		t.Parallel()
		api, c, secret := start(t)
		_, err := c.Counters(t.Context())
		require.NoError(t, err)
		api.Change(func(s *emqxtest.State) { s.Secret = "rotated" })
		_, err = c.Counters(t.Context())
		require.ErrorIs(t, err, emqx.ErrUnauthorized)
		*secret = "rotated"
		_, err = c.Counters(t.Context())
		require.NoError(t, err)
	})
	t.Run("refusals are told apart", func(t *testing.T) {
		t.Parallel()
		api, c, _ := start(t)
		for status, want := range map[int]error{
			403: emqx.ErrForbidden, 404: emqx.ErrNotFound, 500: emqx.ErrUnexpected, 302: emqx.ErrUnexpected,
		} {
			api.Change(func(s *emqxtest.State) { s.Fail = status })
			_, err := c.Counters(t.Context())
			require.ErrorIs(t, err, want)
			require.ErrorContains(t, err, "configured by the test")
		}
	})
	t.Run("a listener is started", func(t *testing.T) {
		t.Parallel()
		api, c, _ := start(t)
		api.Change(func(s *emqxtest.State) { s.Listeners["ssl:default"] = emqx.Listener{} })
		l, err := c.Listener(t.Context(), "ssl:default")
		require.NoError(t, err)
		require.False(t, l.Running)
		require.NoError(t, c.StartListener(t.Context(), "ssl:default"))
		l, err = c.Listener(t.Context(), "ssl:default")
		require.NoError(t, err)
		require.True(t, l.Enabled && l.Running)
		require.ErrorIs(t, c.StartListener(t.Context(), "ssl:none"), emqx.ErrNotFound)
	})
	t.Run("the strategy of a group and of all", func(t *testing.T) {
		t.Parallel()
		_, c, _ := start(t)
		s, err := c.Settings(t.Context())
		require.NoError(t, err)
		require.Equal(t, emqx.HashClientID, s.Strategy("bridge-p0"))
		s.GroupStrategies["bridge-p0"] = "round_robin"
		require.Equal(t, "round_robin", s.Strategy("bridge-p0"))
		require.Equal(t, "deny", s.Authorization.NoMatch)
	})
}

// EMQX's own answers, as 5.8.9 gave them, shortened.
func TestAnswersOfEMQX(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/api/v5/clients": `{"data":[{"clientid":"bridge-p3","connected":true,"inflight_cnt":1000,"listener":"tcp:default","mqueue_dropped":3,
			"mqueue_len":26600,"mqueue_max":200000,"node":"emqx@127.0.0.1","subscriptions_cnt":1,"username":"bridge"},
			{"clientid":"bridge-p4","mqueue_max":"infinity","username":null}],"meta":{"count":2,"hasnext":false,"limit":2,"page":1}}`,
		"/api/v5/metrics":                `{"messages.dropped.no_subscribers":7,"delivery.dropped.queue_full":9,"delivery.dropped":9}`,
		"/api/v5/configs/global_zone":    `{"mqtt":{"shared_subscription_strategy":"round_robin","clientid_override":"disabled","max_mqueue_len":1000}}`,
		"/api/v5/configs/broker":         `{"enable_session_registry":true,"session_history_retain":"0s","shared_subscription_group":{"bridge-p0":{"strategy":"hash_clientid"}}}`,
		"/api/v5/authorization/settings": `{"cache":{"enable":false,"excludes":[],"max_size":32,"ttl":"1m"},"deny_action":"disconnect","no_match":"deny"}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answers[r.URL.Path]) }))
	t.Cleanup(server.Close)
	c := emqx.New(emqx.Options{API: server.URL, Key: "k", Secret: func() (string, error) { return "s", nil }})
	t.Cleanup(c.Close)

	sessions, err := c.Sessions(t.Context(), []string{"bridge-p3", "bridge-p4"})
	require.NoError(t, err)
	require.Equal(t, emqx.Session{
		ClientID: "bridge-p3", Username: "bridge", Connected: true, Listener: "tcp:default",
		QueueLength: 26600, QueueLimit: 200000, QueueDropped: 3, InFlight: 1000,
	}, sessions["bridge-p3"])
	require.Zero(t, sessions["bridge-p4"].QueueLimit)
	counters, err := c.Counters(t.Context())
	require.NoError(t, err)
	require.Equal(t, emqx.Counters{NoSubscribers: 7, QueueFull: 9}, counters)
	settings, err := c.Settings(t.Context())
	require.NoError(t, err)
	require.Equal(t, "round_robin", settings.Strategy("other"))
	require.Equal(t, emqx.HashClientID, settings.Strategy("bridge-p0"))
	require.Equal(t, "disconnect", settings.Authorization.DenyAction)
}

func TestClientUnreachableAPI(t *testing.T) {
	t.Parallel()
	c := emqx.New(emqx.Options{API: "http://127.0.0.1:1", Key: "k", Secret: func() (string, error) { return "s3cret", nil }})
	_, err := c.Counters(t.Context())
	require.ErrorIs(t, err, emqx.ErrUnreachable)
	require.ErrorContains(t, err, "GET /metrics: ")
	require.NotContains(t, err.Error(), "s3cret")
}
