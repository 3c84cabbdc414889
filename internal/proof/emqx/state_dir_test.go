package emqx

import (
	"fmt"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/jetstream/embedded"
)

// A limit from docs/guarantees.md: PubAcks of stored messages are lost, NATS is unreachable for
// longer than the duplicate window, and a bridge with another state_dir takes over the
// sessions. Without DUP the redelivered messages look new, so they are stored a second time,
// under the same id.
func TestE8OtherStateDir(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the outage is longer than the window")
	}
	const window, messages = 2 * time.Second, 20
	b, addr := proof.StartBroker(t, broker.Options{Attest: true, DeviceUsernames: true, Username: "bridge", Password: proof.BridgePassword})
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	link := peers.Proxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	settings := func(natsURL string) proof.Settings {
		return proof.Settings{
			"mqtt.url": "mqtt://" + addr, "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword,
			"nats.url": natsURL, "state_dir": t.TempDir(), "streams.duplicate_window": window.String(),
		}
	}
	first := proof.StartInProcess(t, settings("nats://"+link.Addr))
	proof.AwaitReady(t, first)
	stored := func() (ids map[string]int, n int) {
		ids = map[string]int{}
		s, err := js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			m, err := s.GetMsg(t.Context(), seq)
			require.NoError(t, err)
			ids[m.Header.Get(nats.MsgIdHdr)]++
			n++
		}
		return ids, n
	}

	device := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("d").SetUsername("acme/dev-1").SetProtocolVersion(4))
	proof.AwaitToken(t, device.Connect())
	t.Cleanup(func() { device.Disconnect(0) })
	publish := func(text string) {
		proof.AwaitToken(t, device.Publish("tenant/acme/device/dev-1/telemetry", 1, false, text))
	}
	publish("settled")
	proof.Eventually(t, func() bool { return first.Totals().Stored == 1 }, func() any { return first.Problems() })
	link.Impair(peers.Impairment{}, peers.Impairment{Vanish: true})
	for i := range messages {
		publish(fmt.Sprint(i))
	}
	proof.Eventually(t, func() bool { _, n := stored(); return n == 1+messages }, func() any { return "not all were stored" })
	link.Down()
	time.Sleep(3 * window)

	second := proof.StartInProcess(t, settings(server.URL()))
	proof.Eventually(t, func() bool {
		for _, c := range b.Clients() {
			if c.Pending > 0 {
				return false
			}
		}
		return second.Totals().Stored > 0 && second.Totals().InFlight == 0
	}, func() any { return fmt.Sprint(b.Clients(), second.Problems()) })
	ids, n := stored()
	require.Len(t, ids, 1+messages, "nothing is lost, and a copy has the id of the first")
	require.Equal(t, 1+2*messages, n)
}
