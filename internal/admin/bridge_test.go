package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unreachable returns settings under which neither peer can be reached. The streams are externally
// managed, so the start does not wait for them.
func unreachable() []string {
	return []string{"MQTT_URL=mqtt://127.0.0.1:1", "NATS_URL=nats://127.0.0.1:1", "BRIDGE_STREAMS_MANAGE=off"}
}

// served is a server and its bridge.
type served struct {
	*endpoint.Server
	bridge *daemon.Bridge
}

// serve runs a bridge with these settings and the endpoint for it.
func serve(t *testing.T, env ...string) served {
	t.Helper()
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	b, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.New(io.Discard), Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	s, err := endpoint.Open(testrun.Address(t).String(), Program(b), zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return served{s, b}
}

// serveWithPeers also runs an attesting MQTT broker and a NATS server.
func serveWithPeers(t *testing.T, env ...string) (served, *broker.Broker) {
	t.Helper()
	mqtt, err := broker.Open(broker.Options{DeviceUsernames: true, Attest: true, AnyCN: true, Username: "bridge", Password: "secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = mqtt.Close() })
	nats, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(nats.Close)
	s := serve(t, append(env, "MQTT_URL="+mqtt.URL(), "NATS_URL="+nats.URL(), "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=secret")...)
	require.Eventually(t, func() bool { return endpoint.Healthcheck(t.Context(), "the bridge", s.Addr()) == nil }, testrun.Timeout, 10*time.Millisecond)
	return s, mqtt
}

// publish sends n messages of the device cn to topic.
func publish(t *testing.T, b *broker.Broker, cn, topic string, n int) {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("device " + cn).SetUsername(cn).SetAutoReconnect(false))
	connected := c.Connect()
	require.True(t, connected.WaitTimeout(testrun.Timeout))
	require.NoError(t, connected.Error())
	defer c.Disconnect(250)
	for range n {
		sent := c.Publish(topic, 1, false, "x")
		require.True(t, sent.WaitTimeout(testrun.Timeout))
		require.NoError(t, sent.Error())
	}
}

func get(t *testing.T, s interface{ Addr() string }, path string) (int, string) {
	t.Helper()
	code, body, _ := ask(t, http.MethodGet, s, path)
	return code, body
}

func ask(t *testing.T, method string, s interface{ Addr() string }, path string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testrun.Timeout}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body), resp.Header
}

func object(t *testing.T, body string) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &v), body)
	return v
}
