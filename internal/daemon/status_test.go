package daemon

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/mqtt"
)

// nowhere is a port without a listener.
const nowhere = "127.0.0.1:1"

// run starts a bridge with these settings; the test's cleanup stops it.
func run(t *testing.T, env ...string) *Bridge {
	t.Helper()
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.New(io.Discard), Version: "1.2.3", checkInterval: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return b
}

func embeddedNATS(t *testing.T) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: testrun.Address(t).Port})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// attesting is a broker whose plain listener accepts a user name as a device's CN.
func attesting(t *testing.T) *broker.Broker {
	t.Helper()
	b, err := broker.Open(broker.Options{
		Username: "bridge", Password: "secret", DeviceUsernames: true, Attest: true, AnyCN: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func peers(b *broker.Broker, nats *embedded.Server) []string {
	return append(brokerOf(b), "NATS_URL="+nats.URL())
}

func brokerOf(b *broker.Broker) []string {
	return []string{"MQTT_URL=" + b.URL(), "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=secret"}
}

// publishFrom sends n messages of the device cn to topic and waits for their PUBACKs.
func publishFrom(t *testing.T, b *broker.Broker, cn, topic string, n int) {
	t.Helper()
	o := paho.NewClientOptions().AddBroker(b.URL()).SetClientID("device " + cn + topic).SetUsername(cn).SetAutoReconnect(false)
	c := paho.NewClient(o)
	connected := c.Connect()
	require.True(t, connected.WaitTimeout(testrun.Timeout))
	require.NoError(t, connected.Error())
	defer c.Disconnect(250)
	for i := range n {
		sent := c.Publish(topic, 1, false, fmt.Sprintf(`{"n":%d}`, i))
		require.True(t, sent.WaitTimeout(testrun.Timeout))
		require.NoError(t, sent.Error())
	}
}

func waitReady(t *testing.T, b *Bridge) {
	t.Helper()
	require.Eventually(t, func() bool { ready, _ := b.Ready(); return ready }, testrun.Timeout, 5*time.Millisecond)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	t.Run("two unreachable peers are two problems", testTwoUnreachablePeersAreTwoProblems)
	t.Run("stream contents are counted", testStreamContentsAreCounted)
	t.Run("deleted stream is reported", testDeletedStreamIsReported)
	t.Run("cancelled context ends stream queries", testCancelledContextEndsStreamQueries)
	t.Run("NATS outage is one problem of all lanes", testNATSOutageIsOneProblemOfAllLanes)
	t.Run("takeover of several lanes is one problem", testTakeoverOfSeveralLanesIsOneProblem)
	t.Run("refused filter is reported", testRefusedFilterIsReported)
}

func testTwoUnreachablePeersAreTwoProblems(t *testing.T) {
	t.Parallel()
	b := run(t, "MQTT_URL=mqtt://"+nowhere, "NATS_URL=nats://"+nowhere)
	var problems []Problem
	require.Eventually(t, func() bool {
		var ready bool
		ready, problems = b.Ready()
		return !ready && len(problems) == 2 && strings.Contains(problems[1].Problem, "refused")
	}, testrun.Timeout, 5*time.Millisecond)
	for i, component := range []string{"nats", "mqtt"} {
		p := problems[i]
		require.Equal(t, component, p.Component)
		require.Contains(t, p.Problem, "dial tcp "+nowhere+": connect: connection refused")
		require.WithinDuration(t, time.Now(), p.Since, testrun.Timeout)
		require.Len(t, p.Lanes, 16, component)
	}
	require.NotEmpty(t, problems[1].Advice)

	s := b.Status(t.Context())
	require.False(t, s.Ready)
	require.Len(t, s.Problems, 2)
	require.Len(t, s.Lanes, 16)
	require.Equal(t, "bridge-p0", s.Lanes[0].ClientID)
	require.Contains(t, s.Lanes[0].LastError.Problem, nowhere)
	require.Len(t, s.Streams, 4)
	for _, stream := range s.Streams {
		require.Nil(t, stream.State)
		require.Contains(t, stream.Problem, "not available: not connected to NATS")
	}
}

func testStreamContentsAreCounted(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, peers(devices, nats)...)
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 5)
	publishFrom(t, devices, "acme/dev-2", "tenant/acme/device/dev-2/shadow/reported", 1)
	publishFrom(t, devices, "acme/evil", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool {
		c := b.Totals()
		return c.Received == 9 && c.InFlight == 0
	}, testrun.Timeout, 5*time.Millisecond)

	totals := b.Totals()
	require.EqualValues(t, 6, totals.Stored)
	require.EqualValues(t, 6, totals.AckLatency.Count)
	require.EqualValues(t, 3, totals.Rejected[verdict.CNMismatch])
	require.EqualValues(t, 3, totals.QuarantinedTotal())
	require.True(t, totals.Connected)

	s := b.Status(t.Context())
	require.True(t, s.Ready)
	require.Empty(t, s.Problems)
	require.Equal(t, "1.2.3", s.Version)
	require.Equal(t, map[string]uint64{"cn_mismatch": 3}, s.Totals.Quarantined)
	require.Positive(t, s.Totals.AckLatency.P99)
	require.Equal(t, 3, s.Devices.Known)
	var received uint64
	for _, lane := range s.Lanes {
		require.True(t, lane.Open)
		require.Len(t, lane.Session.Granted, 1)
		require.True(t, lane.NATS.Connected)
		received += lane.Counts.Received
	}
	require.Equal(t, s.Totals.Received, received)
	held := map[string]uint64{}
	for _, stream := range s.Streams {
		require.Empty(t, stream.Problem)
		held[stream.Name] = stream.Messages
	}
	require.Equal(t, map[string]uint64{"TELEMETRY": 5, "SHADOW": 1, "COMMANDS": 0, "QUARANTINE": 3}, held)
	require.EqualValues(t, 5, s.Streams[0].LastSequence)
	require.False(t, s.Streams[0].LastTime.IsZero())

	device, ok := b.Device("acme", "dev-1")
	require.True(t, ok)
	require.EqualValues(t, 5, device.Stored)
	_, ok = b.Device("acme", "dev-3")
	require.False(t, ok)
	require.Equal(t, "dev-1", b.TopDevices(1, limit.ByReceived)[0].Device)
	require.Equal(t, "evil", b.TopDevices(5, limit.ByRejected)[0].Device)
}

func testDeletedStreamIsReported(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0")...)
	waitReady(t, b)
	require.NoError(t, b.control.js.DeleteStream(t.Context(), "SHADOW"))
	for _, stream := range b.Status(t.Context()).Streams {
		require.Equal(t, stream.Name == "SHADOW", stream.Problem != "")
		require.Equal(t, stream.Name != "SHADOW", stream.State != nil)
	}
}

func testCancelledContextEndsStreamQueries(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0")...)
	waitReady(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, stream := range b.Status(ctx).Streams {
		require.Contains(t, stream.Problem, context.Canceled.Error())
	}
}

func testNATSOutageIsOneProblemOfAllLanes(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, peers(devices, nats)...)
	waitReady(t, b)
	gone := time.Now()
	nats.Close()
	var problems []Problem
	require.Eventually(t, func() bool {
		_, problems = b.Ready()
		return len(problems) == 1 && len(problems[0].Lanes) == 16
	}, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, "nats", problems[0].Component)
	require.False(t, problems[0].Since.Before(gone))
	// A request that is in flight when the connection ends gets no answer.
	require.Eventually(t, func() bool {
		return b.Status(t.Context()).Streams[0].Problem == "not available: not connected to NATS"
	}, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, "nats", b.Status(t.Context()).Lanes[0].LastError.Component)
}

func testTakeoverOfSeveralLanesIsOneProblem(t *testing.T) {
	t.Parallel()
	first := mqttProblem(&mqtt.Status{ClientID: "bridge-p0", Takeover: true, Problem: "… bridge-p0"})
	second := mqttProblem(&mqtt.Status{ClientID: "bridge-p1", Takeover: true, Connected: true})
	require.Equal(t, first, second)
	require.Contains(t, first, "same client id")
	require.Contains(t, mqttaccount.Advice(mqtt.ErrTakeover), "mqtt.client_id")
}

func testRefusedFilterIsReported(t *testing.T) {
	t.Parallel()
	require.Contains(t, mqttProblem(&mqtt.Status{Connected: true, Problem: "the broker refused the subscription to a/#"}), "a/#")
}
