package doctest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// TestTopicsPage maps the page's topics, then sends one through a broker for each layout and finds
// it under the subject on the page.
func TestTopicsPage(t *testing.T) {
	t.Parallel()
	p := readPage(t, "topics.md")
	p.check(t)
	s := newSession(t, nil)
	s.play(p, nil)
	for file, sent := range map[string][][2]string{
		"zigbee.yaml": {
			{"zigbee2mqtt/lamp", "tenant.home.device.lamp.telemetry"},
			{"zigbee2mqtt/lamp/availability", "tenant.home.device.lamp.z2m.availability"},
		},
		"tasmota.yaml":   {{"tele/plug-7/SENSOR", "tenant.home.device.plug-7.SENSOR"}, {"stat/plug-7/POWER", "tenant.home.device.plug-7.stat.POWER"}},
		"shelly.yaml":    {{"shellyplus1-a8032abe54dc/events/rpc", "tenant.home.device.shellyplus1-a8032abe54dc.events"}},
		"owntracks.yaml": {{"owntracks/jane/phone", "tenant.jane.device.phone.location"}, {"owntracks/jane/phone/event", "tenant.jane.device.phone.owntracks.event"}},
		"sparkplug.yaml": {{"spBv1.0/plant/NDATA/edge-1", "tenant.plant.device.edge-1.NDATA"}, {"spBv1.0/STATE/scada", "sparkplug.state.scada"}},
		"chirpstack.yaml": {
			{"application/9c1c7d56/device/0102030405060708/event/up", "tenant.9c1c7d56.device.0102030405060708.up"},
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			requireStored(t, filepath.Join(s.Dir, file), sent)
		})
	}
}

// requireStored runs a bridge with the configuration against a mosquitto, publishes to each topic,
// and requires one message in the streams under each subject.
func requireStored(t *testing.T, file string, sent [][2]string) {
	broker := peers.Mosquitto(t, peers.MosquittoOptions{})
	server, err := embedded.Open(embedded.Options{StoreDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	c, err := config.Load(config.Sources{File: file, Flags: []config.Flag{
		{Path: "mqtt.url", Value: "mqtt://" + broker.Addr}, {Path: "nats.url", Value: server.URL()}, {Path: "admin.listen", Value: ""},
	}}, plan.Validate)
	require.NoError(t, err)
	b, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel), Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	ready := func() bool { ok, _ := b.Ready(); return ok }
	require.Eventually(t, ready, testrun.Timeout, 10*time.Millisecond)

	device := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + broker.Addr).SetClientID("device"))
	require.True(t, device.Connect().WaitTimeout(testrun.Timeout))
	t.Cleanup(func() { device.Disconnect(0) })
	for _, pair := range sent {
		require.True(t, device.Publish(pair[0], 1, false, `{"topic":"`+pair[0]+`"}`).WaitTimeout(testrun.Timeout))
	}
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	for _, pair := range sent {
		require.Eventually(t, func() bool {
			m, err := stream.GetLastMsgForSubject(t.Context(), pair[1])
			return err == nil && string(m.Data) == `{"topic":"`+pair[0]+`"}`
		}, testrun.Timeout, 10*time.Millisecond, "%s under %s", pair[0], pair[1])
	}
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(sent), info.State.Msgs, "each once")
}
