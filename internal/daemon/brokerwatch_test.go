package daemon

import (
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
	"mqtt-nats-bridge/internal/plan"
)

// watch is a broker watch that polls api when it is told to.
func watch(t *testing.T, api *emqxtest.API) (w *brokerWatch, secretFile string) {
	t.Helper()
	env, secretFile := api.Env(t)
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	w = newBrokerWatch(c, plan.Lanes, zerolog.Nop())
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
		w.poll(t.Context())
		require.Empty(t, w.warnings())
		status := w.status()
		require.Equal(t, []BrokerQueueStatus{{ClientID: "bridge-p3", Connected: true, Length: 99_000, Limit: 200_000}}, status.Queues)
		require.Empty(t, status.Problem)
	})
	t.Run("half full, with the time left", func(t *testing.T) {
		t.Parallel()
		w, _ := watch(t, emqxtest.Start(t))
		now := time.Now()
		w.polled = now
		for i := range 4 { // 10,000 a poll
			for id, base := range map[string]int64{"bridge-p3": 80_000, "bridge-p4": 150_000} {
				if w.queues[id] == nil {
					w.queues[id] = &brokerQueue{}
				}
				grown := int64(i) * 10_000
				if id == "bridge-p4" {
					grown = 0
				}
				w.queues[id].observe(now.Add(time.Duration(i-3)*brokerPoll), lane(id, base+grown))
			}
		}
		warnings := w.warnings()
		require.Len(t, warnings, 1)
		require.Equal(t, "broker", warnings[0].Component)
		require.Contains(t, warnings[0].Problem, "bridge-p3 holds 110000 of 200000 messages (55 %) and is full in about 2 minutes")
		require.Equal(t, []string{"bridge-p3", "bridge-p4"}, warnings[0].Lanes)
		require.Equal(t, warnings[0].Since, w.warnings()[0].Since, "the start is remembered")
	})
	t.Run("messages dropped from a full queue", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		full := lane("bridge-p3", 0)
		full.QueueDropped = 500 // before the bridge looked
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = full })
		w.poll(t.Context())
		require.Empty(t, w.warnings())
		full.QueueDropped = 620
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = full })
		w.poll(t.Context())
		require.Contains(t, w.warnings()[0].Problem, "dropped 120 messages")
		w.queues["bridge-p3"].droppedAt = time.Now().Add(-dropsShown)
		require.Empty(t, w.warnings())
	})
	t.Run("a session from another zone keeps its limit", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		api.Change(func(s *emqxtest.State) {
			s.Sessions["bridge-p3"] = emqx.Session{ClientID: "bridge-p3", QueueLimit: 1000}
			s.Sessions["bridge-p4"] = lane("bridge-p4", 0)
		})
		w.poll(t.Context())
		warnings := w.warnings()
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
		w.poll(t.Context())
		warnings := w.warnings()
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Problem, "at most 1000 messages for a lane, its default")
		require.Len(t, warnings[0].Lanes, 16)
	})
	t.Run("lanes of other replicas are theirs to warn about", func(t *testing.T) {
		t.Parallel()
		api := emqxtest.Start(t)
		w, _ := watch(t, api)
		w.elsewhere = func(id string) bool { return id == "bridge-p3" }
		api.Change(func(s *emqxtest.State) { s.Sessions["bridge-p3"] = lane("bridge-p3", 150_000) })
		w.poll(t.Context())
		require.Empty(t, w.warnings())
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
	w.poll(t.Context())
	warnings := w.warnings()
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
		w.poll(t.Context())
		warnings := w.warnings()
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Problem, emqx.ErrUnauthorized.Error())
		require.Contains(t, warnings[0].Advice, "mqtt.emqx.secret_file")
		require.NoError(t, os.WriteFile(secretFile, []byte("rotated\n"), 0o600))
		w.poll(t.Context())
		require.Empty(t, w.warnings())
	})
	t.Run("a silent API does not keep the bridge from being ready", func(t *testing.T) {
		t.Parallel()
		mqtt, nats := attesting(t), embeddedNATS(t)
		api := emqxtest.Start(t)
		env, _ := api.Env(t)
		api.Change(func(s *emqxtest.State) { s.Fail = 503 })
		b := run(t, append(peers(mqtt, nats), env...)...)
		waitReady(t, b)
		require.Eventually(t, func() bool { return len(b.Warnings()) == 1 }, patience, 5*time.Millisecond)
		require.Equal(t, "broker", b.Warnings()[0].Component)
		require.Contains(t, b.Status(t.Context()).Broker.Problem, "503")
		sum, _ := sums(t, b.Metrics())
		require.Contains(t, sum, "mqttbridge_broker_api_up")
		require.Zero(t, sum["mqttbridge_broker_api_up"])
		require.NotContains(t, sum, "mqttbridge_broker_queue_length", "an old reading is worse than none")
	})
}

func TestBrokerMetrics(t *testing.T) {
	t.Parallel()
	mqtt, nats, api := attesting(t), embeddedNATS(t), emqxtest.Start(t)
	env, _ := api.Env(t)
	api.Change(func(s *emqxtest.State) {
		s.Counters = emqx.Counters{NoSubscribers: 7, QueueFull: 9}
		s.Sessions["bridge-p3"] = emqx.Session{ClientID: "bridge-p3", QueueLength: 11, QueueLimit: 13, QueueDropped: 17, InFlight: 19}
	})
	b := run(t, append(peers(mqtt, nats), env...)...)
	require.Eventually(t, func() bool { return !b.Status(t.Context()).Broker.PolledAt.IsZero() }, patience, 5*time.Millisecond)
	pedantic := prometheus.NewPedanticRegistry()
	require.NoError(t, pedantic.Register(newCollector(b)))
	sum, series := sums(t, pedantic)
	for name, want := range map[string]float64{
		"api_up": 1, "queue_length": 11, "queue_limit": 13, "queue_dropped_total": 17, "in_flight": 19,
		"dropped_total no_subscribers": 7, "dropped_total queue_full": 9,
	} {
		require.Equal(t, want, sum["mqttbridge_broker_"+name], name)
		require.Equal(t, 1, series["mqttbridge_broker_"+name], name)
	}
}
