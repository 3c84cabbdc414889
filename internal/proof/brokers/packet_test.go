package brokers

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// scriptedRun runs the bridge against a scripted broker until every message is acknowledged.
func scriptedRun(t *testing.T, name, what string, b *proof.ScriptedBroker) (*daemon.Bridge, natsjs.JetStream, proof.Verdict) {
	t.Helper()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	bridge := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+b.Address(), server.URL()).With("mqtt.max_packet", "128KiB").With("limits.payload", "64KiB"))
	b.AwaitAll(t)
	proof.Eventually(t, func() bool { return bridge.Totals().InFlight == 0 }, func() any { return bridge.Totals() })
	all := proof.ReadLoad(t, js, "TELEMETRY")
	v := b.Reconcile(all)
	if !v.Clean() {
		t.Log(b.Explain(all))
	}
	quarantine, err := js.Stream(t.Context(), "QUARANTINE")
	require.NoError(t, err)
	v.Quarantined = int(quarantine.CachedInfo().State.Msgs)
	proof.Report(name, what, v)
	return bridge, js, v
}

// A malformed packet makes the bridge log an error, close the connection and reconnect. The
// broker then redelivers the messages in flight.
func TestMalformedPackets(t *testing.T) {
	t.Parallel()
	errCut := errors.New("cut in the middle of a packet")
	publish := wire.AppendPublish(nil, wire.QoS1, "tenant/t0/device/d00000/telemetry", 65000, make([]byte, 64))
	for name, bytes := range map[string][]byte{
		"oversize, not a PUBLISH":         {0x90, 0xff, 0xff, 0xff, 0x7f},
		"length of five bytes":            {0x30, 0x80, 0x80, 0x80, 0x80, 0x01},
		"truncated":                       publish[:len(publish)/2],
		"truncated in its length":         {0x32, 0x80},
		"topic longer than the packet":    {0x32, 4, 0xff, 0xff, 'a', 'b'},
		"too short for a packet id":       {0x32, 3, 0, 1, 'a'},
		"packet id 0":                     {0x32, 5, 0, 1, 'a', 0, 0},
		"QoS 3":                           {0x36, 5, 0, 1, 'a', 0, 1},
		"reserved packet type":            {0xf0, 0},
		"a second CONNACK":                {0x20, 2, 0, 0},
		"SUBACK without SUBSCRIBE":        {0x90, 6, 0, 9, 1, 1, 1, 1},
		"a packet that only clients send": {0x82, 6, 0, 1, 0, 1, 'a', 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempts := 0
			b := proof.NewScriptedBroker(t, proof.LoadOptions{Devices: 20, Rate: 5000, Total: 5000}, func(b *proof.ScriptedBroker) {
				b.Between = func(at int, conn net.Conn) error {
					if at%2000 != 1500 {
						return nil
					}
					attempts++
					if _, err := conn.Write(bytes); err != nil {
						return err
					}
					if name == "truncated" || name == "truncated in its length" {
						return errCut
					}
					return nil
				}
			})
			_, _, v := scriptedRun(t, "malformed: "+name, "5,000 per second", b)
			require.True(t, v.Clean(), v)
			require.Zero(t, v.Quarantined)
			require.Equal(t, 2, attempts)
			require.Greater(t, b.Counts().Connections, 1, "the connection ended")
		})
	}
}

// An oversize PUBLISH does not end the connection. Otherwise the broker would redeliver it on
// every reconnect.
func TestOversizePublish(t *testing.T) {
	t.Parallel()
	huge := wire.AppendPublish(nil, wire.QoS1, "tenant/t0/device/huge/telemetry", 65000, make([]byte, 300<<10))
	b := proof.NewScriptedBroker(t, proof.LoadOptions{Devices: 20, Rate: 5000, Total: 5000}, func(b *proof.ScriptedBroker) {
		b.Between = func(at int, conn net.Conn) (err error) {
			if at%2000 == 1500 {
				_, err = conn.Write(huge)
			}
			return err
		}
	})
	_, js, v := scriptedRun(t, "malformed: oversize PUBLISH", "5,000 per second", b)
	require.True(t, v.Clean(), v)
	require.Equal(t, 2, v.Quarantined)
	m := proof.AwaitMessage(t, js, "QUARANTINE", "quarantine.payload_too_large.tenant.t0.device.huge.telemetry")
	require.Equal(t, "payload_too_large", m.Header.Get("Bridge-Reason"))
	counts := b.Counts()
	require.Equal(t, 1, counts.Connections)
	require.Equal(t, 2, counts.Strays, "and acknowledged")
}

// EMQX before 5.8 redelivers on the same connection after retry_interval. While JetStream is
// unreachable, it redelivers every message in flight at each interval.
func TestRedeliverySameConnection(t *testing.T) {
	t.Parallel()
	for what, o := range map[string]proof.LoadOptions{
		"5,000 per second":            {Devices: 20, Rate: 5000, Total: 20_000},
		"5,000 per second, identical": {Devices: 1, Rate: 5000, Total: 20_000, Identical: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var pause func()
			b := proof.NewScriptedBroker(t, o, func(b *proof.ScriptedBroker) {
				b.Again = 20 * time.Millisecond
				b.Between = func(at int, _ net.Conn) error {
					if at == o.Total/2 {
						pause()
					}
					return nil
				}
			})
			server := proof.StartJetStream(t, embedded.Options{})
			proxied := proxyTo(t, server.URL())
			pause = func() {
				proxied.Down()
				time.AfterFunc(500*time.Millisecond, proxied.Up)
			}
			js := proof.ConnectNATS(t, server.URL())
			bridge := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+b.Address(), "nats://"+proxied.Addr))
			b.AwaitAll(t)
			proof.Eventually(t, func() bool { return bridge.Totals().InFlight == 0 }, func() any { return bridge.Totals() })
			v := b.Reconcile(proof.ReadLoad(t, js, "TELEMETRY"))
			proof.Report("redelivery on the same connection", what, v)
			require.True(t, v.Clean(), v)
			counts := b.Counts()
			require.Positive(t, counts.Redelivered)
			require.Equal(t, 1, counts.Connections)
			t.Logf("%d redeliveries on one connection, %d PUBACKs came twice", counts.Redelivered, counts.Strays)
		})
	}
}

// proxyTo starts a proxy for the server at a URL.
func proxyTo(t testing.TB, url string) *peers.TCPProxy {
	t.Helper()
	return peers.Proxy(t, strings.TrimPrefix(url, "nats://"))
}
