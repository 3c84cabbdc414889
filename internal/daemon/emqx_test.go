package daemon

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/brokerwatch"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
)

// Rows E7 and E10 of docs/emqx.md, end to end: a bridge without NATS, the queue in the broker, and
// the watch that reads it through the API.

// withoutNATS is a bridge whose lanes are subscribed and whose messages stay with the broker; poll
// returns the watch's warnings.
func withoutNATS(t *testing.T, lanes broker.Zone) (b *broker.Broker, w *brokerwatch.Watch, poll func() string) {
	t.Helper()
	b, err := broker.Open(broker.Options{
		Username: "bridge", Password: "secret", DeviceUsernames: true, Attest: true, Services: lanes,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	api := httptest.NewServer(b.API())
	t.Cleanup(api.Close)
	env := append(brokerOf(b), "NATS_URL=nats://"+nowhere, "BRIDGE_STOP_TIMEOUT=100ms",
		"BRIDGE_MQTT_EMQX_API="+api.URL, "BRIDGE_MQTT_EMQX_KEY=k", "BRIDGE_MQTT_EMQX_SECRET=s")
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	bridge, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop(), Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bridge.Close(context.Background()) }) // leave the messages with the broker
	require.Eventually(t, func() bool {
		lanes := bridge.Status(t.Context()).Lanes
		return !slices.ContainsFunc(lanes, func(l LaneStatus) bool { return !l.Session.Subscribed })
	}, testrun.Timeout, 5*time.Millisecond)

	plan, err := plan.Compile(c)
	require.NoError(t, err)
	w = brokerwatch.New(c, plan.Lanes, func(string) bool { return false }, zerolog.Nop())
	return b, w, func() (all string) {
		w.Poll(t.Context())
		for _, warning := range w.Warnings() {
			all += warning.Problem + "\n"
		}
		return all
	}
}

func TestE7DefaultZoneQueue(t *testing.T) {
	t.Parallel()
	b, _, said := withoutNATS(t, broker.DefaultZone())
	require.Contains(t, said(), "at most 1000 messages for a lane, its default")

	publishFrom(t, b, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 700)
	require.Contains(t, said(), "of 1000 messages")
	require.Zero(t, b.Dropped())
	publishFrom(t, b, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 700)
	require.Positive(t, b.Dropped())
	require.Contains(t, said(), "dropped")
}

// Queued messages use EMQX's memory. The watch shows the amount for each lane, and warns of a
// growing queue while at least half of the space is still free.
func TestE10QueuePerLane(t *testing.T) {
	t.Parallel()
	const inFlight, limit = 10, 200
	b, w, said := withoutNATS(t, broker.Zone{MaxInflight: inFlight, MaxQueue: limit})
	lane := "bridge-p" + broker.Partition("acme/dev-1")
	waiting := func(want int64) {
		t.Helper()
		queues := w.Status().Queues
		require.Len(t, queues, 16)
		for _, q := range queues {
			require.EqualValues(t, limit, q.Limit)
			require.Zero(t, q.Dropped)
			if q.ClientID == lane {
				require.Equal(t, want, q.Length)
				require.EqualValues(t, inFlight, q.InFlight)
			} else {
				require.Zero(t, q.Length+q.InFlight)
			}
		}
	}
	publishFrom(t, b, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", inFlight+limit/4)
	require.Empty(t, said())
	waiting(limit / 4)
	publishFrom(t, b, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", limit/4)
	require.Regexp(t, lane+` contains 100 of 200 messages \(50 %\) and will be full in about \d+ minutes? at the current rate`, said())
	waiting(limit / 2)
}

// The bridge is ready even if the API does not answer.
func TestBrokerWatchWithASilentAPI(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	api := emqxtest.Start(t)
	env, _ := api.Env(t)
	api.Change(func(s *emqxtest.State) { s.Fail = 503 })
	b := run(t, append(peers(mqtt, nats), env...)...)
	waitReady(t, b)
	require.Eventually(t, func() bool { return len(b.Warnings()) == 1 }, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, "broker", b.Warnings()[0].Component)
	require.Contains(t, b.Status(t.Context()).Broker.Problem, "503")
	sum, _ := sums(t, b.Metrics())
	require.Contains(t, sum, "mqttbridge_broker_api_up")
	require.Zero(t, sum["mqttbridge_broker_api_up"])
	require.NotContains(t, sum, "mqttbridge_broker_queue_length", "an old reading is worse than none")
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
	require.Eventually(t, func() bool { return !b.Status(t.Context()).Broker.PolledAt.IsZero() }, testrun.Timeout, 5*time.Millisecond)
	pedantic := prometheus.NewPedanticRegistry()
	require.NoError(t, pedantic.Register(b.broker))
	sum, series := sums(t, pedantic)
	for name, want := range map[string]float64{
		"api_up": 1, "queue_length": 11, "queue_limit": 13, "queue_dropped_total": 17, "in_flight": 19,
		"dropped_total no_subscribers": 7, "dropped_total queue_full": 9,
	} {
		require.Equal(t, want, sum["mqttbridge_broker_"+name], name)
		require.Equal(t, 1, series["mqttbridge_broker_"+name], name)
	}
}
