package brokerwatch

import (
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
	"mqtt-nats-bridge/internal/plan"
)

// watch is a broker watch that polls api on request.
func watch(t *testing.T, api *emqxtest.API) (w *Watch, secretFile string) {
	t.Helper()
	env, secretFile := api.Env(t)
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	w = New(c, plan.Lanes, func(string) bool { return false }, zerolog.Nop())
	t.Cleanup(w.client.Close)
	return w, secretFile
}

func lane(id string, length int64) emqx.Session {
	return emqx.Session{ClientID: id, Connected: true, QueueLength: length, QueueLimit: 200_000}
}

func TestBrokerWatch(t *testing.T) {
	t.Parallel()
	t.Run("nothing to warn about", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = lane("bridge-p3", 99_000) })
		w.Poll(t.Context())
		require.Empty(t, w.Warnings())
		status := w.Status()
		require.Equal(t, []QueueStatus{{ClientID: "bridge-p3", Connected: true, Length: 99_000, Limit: 200_000}}, status.Queues)
		require.Empty(t, status.Problem)
	})
	t.Run("half full, with the time left", func(t *testing.T) {
		t.Parallel()
		w, _ := watch(t, emqxtest.Start(t))
		now := time.Now()
		w.polled = now
		for i := range 4 { // 10,000 per poll
			for id, base := range map[string]int64{"bridge-p3": 80_000, "bridge-p4": 150_000} {
				if w.queues[id] == nil {
					w.queues[id] = &queue{}
				}
				grown := int64(i) * 10_000
				if id == "bridge-p4" {
					grown = 0
				}
				w.queues[id].observe(now.Add(time.Duration(i-3)*pollEvery), lane(id, base+grown))
			}
		}
		warnings := w.Warnings()
		require.Len(t, warnings, 1)
		require.Equal(t, "broker", warnings[0].Component)
		require.Contains(t, warnings[0].Problem, "bridge-p3 contains 110000 of 200000 messages (55 %) and will be full in about 2 minutes")
		require.Equal(t, []string{"bridge-p3", "bridge-p4"}, warnings[0].Lanes)
		require.Equal(t, warnings[0].Since, w.Warnings()[0].Since, "the start is remembered")
	})
	t.Run("messages dropped from a full queue", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		full := lane("bridge-p3", 0)
		full.QueueDropped = 500 // before the bridge's first poll
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = full })
		w.Poll(t.Context())
		require.Empty(t, w.Warnings())
		full.QueueDropped = 620
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = full })
		w.Poll(t.Context())
		require.Contains(t, w.Warnings()[0].Problem, "dropped 120 messages")
		w.queues["bridge-p3"].droppedAt = time.Now().Add(-dropsShown)
		require.Empty(t, w.Warnings())
	})
	t.Run("a session from another zone keeps its limit", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		api.Change(func(s *emqxtest.State) {
			s.Sessions["bridge-p3"] = emqx.Session{ClientID: "bridge-p3", QueueLimit: 1000}
			s.Sessions["bridge-p4"] = lane("bridge-p4", 0)
		})
		w.Poll(t.Context())
		warnings := w.Warnings()
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Problem, "at most 1000 messages for bridge-p3, and 200000 for other lanes")
		require.Contains(t, warnings[0].Advice, "kick bridge-p3")
		require.Equal(t, []string{"bridge-p3"}, warnings[0].Lanes)
	})
	t.Run("the default zone", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		api.Change(func(s *emqxtest.State) {
			for _, id := range w.lanes {
				s.Sessions[id] = emqx.Session{ClientID: id, QueueLimit: 1000}
			}
		})
		w.Poll(t.Context())
		warnings := w.Warnings()
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Problem, "at most 1000 messages for a lane, its default")
		require.Len(t, warnings[0].Lanes, 16)
	})
	t.Run("no warning about other replicas' lanes", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		w.elsewhere = func(id string) bool { return id == "bridge-p3" }
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = lane("bridge-p3", 150_000) })
		w.Poll(t.Context())
		require.Empty(t, w.Warnings())
	})
}

func TestBrokerWatchGroups(t *testing.T) {
	t.Parallel()
	api := emqxtest.Start(t)
	w, _ := watch(t, api)
	w.groups = map[string]string{"bridge-p3": "bridge-p3", "bridge-p4": "bridge-p4"}
	const filter = "$share/bridge-p3/bridge/v1/3/#"
	api.Change(func(s *emqxtest.State) {
		s.Strategy = "round_robin"
		s.Members["bridge-p3"] = []emqx.Subscription{{ClientID: "bridge-p3", Filter: filter}, {ClientID: "old-p3", Filter: filter}}
		s.Members["bridge-p4"] = []emqx.Subscription{{ClientID: "bridge-p4", Filter: "$share/bridge-p4/bridge/v1/4/#"}}
	})
	w.Poll(t.Context())
	warnings := w.Warnings()
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0].Problem, "client old-p3 is subscribed to "+filter)
	require.Contains(t, warnings[0].Advice, "sessions clear old-p3")
	require.Contains(t, warnings[1].Problem, "by round_robin")
	require.Contains(t, warnings[1].Advice, "hash_clientid")
}

func TestBrokerWatchWithoutTheAPI(t *testing.T) {
	t.Parallel()
	t.Run("refusal is a warning and ends", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, secretFile := watch(t, api)
		api.Change(func(s *emqxtest.State) { s.Secret = "rotated" })
		w.Poll(t.Context())
		warnings := w.Warnings()
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Problem, emqx.ErrUnauthorized.Error())
		require.Contains(t, warnings[0].Advice, "mqtt.emqx.secret_file")
		require.NoError(t, os.WriteFile(secretFile, []byte("rotated\n"), 0o600))
		w.Poll(t.Context())
		require.Empty(t, w.Warnings())
	})
}
