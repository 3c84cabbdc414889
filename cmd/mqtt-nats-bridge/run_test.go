package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
)

const unreachableAddr = "127.0.0.1:1"

func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("runs without peers and stops on SIGTERM", testRunsWithoutPeersAndStopsOnSIGTERM)
	t.Run("console log format", testConsoleLogFormat)
	t.Run("stream conflict is logged once", testStreamConflictIsLoggedOnce)
	t.Run("admin port in use is reported", testAdminPortInUseIsReported)
}

func testRunsWithoutPeersAndStopsOnSIGTERM(t *testing.T) {
	t.Parallel()
	d := start(t, "--mqtt-url", "mqtt://bridge:hunter2@"+unreachableAddr, "--nats-url", "nats://bridge:hunter3@"+unreachableAddr, "--set", "admin.listen=127.0.0.1:0")
	line := d.waitLog(`"message":"starting"`)
	for _, want := range []string{`"version":"1.2.3-test"`, `"lanes":16`, `"broker":"mqtt://127.0.0.1:1"`, `"nats":"nats://bridge:xxxxx@127.0.0.1:1"`} {
		require.Contains(t, line, want)
	}
	var fields struct{ Time string }
	require.NoError(t, json.Unmarshal([]byte(line), &fields))
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, fields.Time)
	d.waitLog(`"level":"error"`, "nats not connected")
	var open struct{ Address string }
	require.NoError(t, json.Unmarshal([]byte(d.waitLog("admin endpoint open")), &open))

	health := peers.Run(t, "healthcheck", "--set", "admin.listen="+open.Address)
	require.Equal(t, 1, health.Code)
	require.Contains(t, health.Err, "the bridge is not ready")
	require.Contains(t, health.Err, "cannot be reached")

	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	code, log := d.end()
	require.Zero(t, code, log)
	require.Contains(t, log, `"cause":"signal: terminated"`)
	require.Contains(t, log, `"message":"shutdown complete, no messages in flight"`)
	require.NotContains(t, log, "hunter")
}

func testConsoleLogFormat(t *testing.T) {
	t.Parallel()
	d := start(t, "run", "--log-format", "console", "--mqtt-url", "mqtt://"+unreachableAddr, "--nats-url", "nats://"+unreachableAddr, "--set", "admin.listen=")
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INF starting .*lanes=16`, d.waitLog("starting"))
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGINT))
	code, _ := d.end()
	require.Zero(t, code)
}

func testStreamConflictIsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	for _, cfg := range []natsjs.StreamConfig{
		{Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, Storage: natsjs.MemoryStorage},
		{Name: "OTHER", Subjects: []string{"quarantine.>"}},
	} {
		_, err = js.CreateStream(context.Background(), cfg)
		require.NoError(t, err)
	}
	got := peers.Run(t, "--mqtt-url", "mqtt://"+unreachableAddr, "--nats-url", server.URL(), "--set", "admin.listen=")
	require.Equal(t, 1, got.Code)
	requireOnceInTheLog(t, got.Err, "stream SHADOW: storage is memory, must be file")
	requireOnceInTheLog(t, got.Err, "stream QUARANTINE: subject quarantine.> belongs to stream OTHER")
}

// requireOnceInTheLog checks that an error that ends the program is one line of the log, and that
// all lines of the log are JSON.
func requireOnceInTheLog(t *testing.T, log, text string) {
	t.Helper()
	found := 0
	for line := range strings.Lines(log) {
		var fields struct{ Level, Error, Message string }
		require.NoError(t, json.Unmarshal([]byte(line), &fields), "no JSON: %s", line)
		if strings.Contains(line, text) {
			found++
			require.Equal(t, "error", fields.Level)
			require.Equal(t, "process failed", fields.Message)
			require.Contains(t, fields.Error, text)
		}
	}
	require.Equal(t, 1, found, log)
}

func testAdminPortInUseIsReported(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	got := peers.Run(t, "--mqtt-url", "mqtt://"+unreachableAddr, "--nats-url", "nats://"+unreachableAddr, "--set", "admin.listen="+l.Addr().String())
	require.Equal(t, 1, got.Code)
	requireOnceInTheLog(t, got.Err, "address already in use: set admin.listen to a free address")
	require.Contains(t, got.Err, l.Addr().String())
	require.NotContains(t, got.Err, "mqtt not connected", "no session was opened")
}

func TestRunShutdown(t *testing.T) {
	t.Parallel()
	t.Run("second signal exits immediately", testSecondSignalExitsImmediately)
	t.Run("unstored messages are reported", testUnstoredMessagesAreReported)
}

// NATS is unreachable, so a message stays in flight for any length of time.
func testSecondSignalExitsImmediately(t *testing.T) {
	t.Parallel()
	d, _ := holding(t, "10m")
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.waitLog("stopping")
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	code, log := d.end()
	require.Equal(t, 1, code, log)
}

func testUnstoredMessagesAreReported(t *testing.T) {
	t.Parallel()
	d, b := holding(t, "100ms")
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	code, log := d.end()
	require.Zero(t, code, log)
	require.Contains(t, log, `1 messages were not stored in time; the broker keeps them`)
	for _, c := range b.Clients() {
		if c.ID == "bridge-0" {
			require.Equal(t, 1, c.Pending)
			return
		}
	}
	require.Fail(t, "the session is gone")
}

// holding starts a bridge with a received message that it cannot store.
func holding(t *testing.T, stopTimeout string) (*daemonProcess, *broker.Broker) {
	t.Helper()
	b, err := broker.Open(broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	d := start(t, "--mqtt-url", b.URL(), "--nats-url", "nats://"+unreachableAddr, "--set", "identity.mode=off",
		"--set", "admin.listen=127.0.0.1:0", "--set", "stop_timeout="+stopTimeout)
	var open struct{ Address string }
	require.NoError(t, json.Unmarshal([]byte(d.waitLog("admin endpoint open")), &open))
	d.waitLog("mqtt connected")
	publish(t, b.URL())
	require.Eventually(t, func() bool {
		return bytes.Contains(metrics(t, open.Address), []byte("mqttbridge_in_flight{lane=\"bridge-0\"} 1\n"))
	},
		20*time.Second, 10*time.Millisecond)
	return d, b
}

func publish(t *testing.T, url string) {
	t.Helper()
	client := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("device"))
	require.True(t, client.Connect().WaitTimeout(20*time.Second))
	defer client.Disconnect(0)
	token := client.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "21.5")
	require.True(t, token.WaitTimeout(20*time.Second))
	require.NoError(t, token.Error())
}

func metrics(t *testing.T, address string) []byte {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return body
}
