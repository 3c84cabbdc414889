package daemon

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
)

// The rows E7 and E10 of docs/emqx.md, end to end: a bridge without NATS, the broker's
// queue behind it, and the watch that reads it through the API.

// withoutNATS is a bridge whose lanes are subscribed and whose messages stay with the
// broker; poll returns the warnings of a watch.
func withoutNATS(t *testing.T, lanes broker.Zone) (b *broker.Broker, w *brokerWatch, poll func() string) {
	t.Helper()
	b, err := broker.Start(broker.Options{
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
	bridge, err := Start(t.Context(), Options{Config: c, Log: zerolog.Nop(), Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bridge.Stop(context.Background()) }) // leaves messages with the broker
	require.Eventually(t, func() bool {
		lanes := bridge.Status(t.Context()).Lanes
		return !slices.ContainsFunc(lanes, func(l LaneStatus) bool { return !l.Session.Subscribed })
	}, patience, 5*time.Millisecond)

	plan, err := plan.Compile(c)
	require.NoError(t, err)
	w = newBrokerWatch(c, plan.Lanes, zerolog.Nop())
	t.Cleanup(w.client.Close)
	return b, w, func() (all string) {
		w.poll(t.Context())
		for _, warning := range w.warnings() {
			all += warning.Problem + "\n"
		}
		return all
	}
}

func TestE7QueueOfTheDefaultZoneIsWatched(t *testing.T) {
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

// What waits in EMQX takes its memory: the watch shows how much that is, lane by lane,
// and warns of a queue that fills up while there is room for as much again.
func TestE10WaitingMessagesAreCountedPerLane(t *testing.T) {
	t.Parallel()
	const inFlight, limit = 10, 200
	b, w, said := withoutNATS(t, broker.Zone{MaxInflight: inFlight, MaxQueue: limit})
	lane := "bridge-p" + broker.Partition("acme/dev-1")
	waiting := func(want int64) {
		t.Helper()
		queues := w.status().Queues
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
	require.Regexp(t, lane+` holds 100 of 200 messages \(50 %\) and is full in about \d+ minutes? at the present rate`, said())
	waiting(limit / 2)
}
