package brokers

import (
	"encoding/binary"
	"net/http"
	"os"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// equal is the payload of a device whose messages are all identical.
const equal = `{"state":"ON"}`

// publishEqual publishes n equal messages as one device and waits for their PUBACKs.
func publishEqual(t testing.TB, addr string, n int, dup bool) {
	t.Helper()
	conn, err := proof.DialMQTT(addr, "publisher", "")
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		var b []byte
		flags := byte(wire.QoS1)
		if dup {
			flags |= wire.Dup
		}
		for i := range n {
			b = wire.AppendPublish(b, flags, "tenant/proof/device/equal/telemetry", proof.PacketID(i), []byte(equal))
			if len(b) > 1<<14 || i == n-1 {
				if _, err := conn.Write(b); err != nil {
					return // the reader gets an error too
				}
				b = b[:0]
			}
		}
	}()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(2*testrun.Timeout)))
	for range n {
		id, err := wire.ReadPuback(conn)
		require.NoError(t, err)
		require.NotZero(t, id)
	}
}

// storedCount returns the number of messages in the stream, 0 if it does not exist.
func storedCount(t testing.TB, js natsjs.JetStream) int {
	t.Helper()
	s, err := js.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		return 0
	}
	return int(s.CachedInfo().State.Msgs)
}

func awaitStored(t testing.TB, js natsjs.JetStream, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return storedCount(t, js) >= n }, 2*testrun.Timeout, 50*time.Millisecond, "%d of %d", storedCount(t, js), n)
}

// storeEqual publishes n equal messages and waits until n more are stored.
func storeEqual(t testing.TB, r *proof.Rig, n int) {
	t.Helper()
	before := storedCount(t, r.JS)
	publishEqual(t, r.Addr, n, false)
	awaitStored(t, r.JS, before+n)
}

// awaitConfirmed waits until the journal shows that the broker has processed every PUBACK: low
// equals end (see the byte table in bridge/DESIGN.md).
func awaitConfirmed(t testing.TB, journal string) {
	t.Helper()
	const end, low = 40, 48
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(journal)
		return err == nil && len(b) > low+8 && binary.LittleEndian.Uint64(b[low:]) == binary.LittleEndian.Uint64(b[end:])
	}, testrun.Timeout, 50*time.Millisecond)
}

// numbering starts brokers that restart packet ids on each connection.
var numbering = map[string]func(testing.TB) (addr string, drain func(testing.TB, string)){
	"RabbitMQ": rabbitBroker, "nats-server": natsBroker,
}

// A device resends equal messages with DUP set. The broker restarts packet ids at 1 on each
// connection and forwards the flag, as RabbitMQ does.
func TestRedeliveryRepublish(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real brokers, up to 90,000 messages")
	}
	for name, start := range numbering {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := start(t)
			r := proof.NewRig(t, proof.RigOptions{Broker: addr})
			storeEqual(t, r, 20)
			r.Bridge.Kill9()
			publishEqual(t, r.Addr, 20, true)
			r.StartBridge()
			r.AwaitSession()
			proof.Mark(t, r.Addr)
			proof.AwaitMarker(t, r.JS)
			// At the kill, up to a window of 10 messages may be unacknowledged.
			require.GreaterOrEqual(t, storedCount(t, r.JS), 41)
			require.LessOrEqual(t, storedCount(t, r.JS), 51)
		})
	}
}

// Kills NATS and then the bridge while equal messages are in flight.
func TestRedeliveryEqualMessages(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real brokers, up to 90,000 messages")
	}
	for name, start := range numbering {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, drain := start(t)
			r := proof.NewRig(t, proof.RigOptions{Broker: addr, Topic: "telemetry"})
			const n = 4000
			publishEqual(t, r.Addr, n/4, false)
			awaitStored(t, r.JS, 1)
			r.NATS.Kill9()
			published := make(chan struct{})
			go func() {
				defer close(published)
				publishEqual(t, r.Addr, n*3/4, false)
			}()
			// Random time of the fault, so that the number of messages in flight varies.
			time.Sleep(500 * time.Millisecond)
			r.Bridge.Kill9()
			r.NATS.Start()
			r.StartBridge()
			r.AwaitSession()
			<-published
			if drain != nil {
				drain(t, "telemetry")
			}
			proof.Mark(t, r.Addr)
			proof.AwaitMarker(t, r.JS)
			got := storedCount(t, r.JS) - 1
			t.Logf("%d of %d", got, n)
			require.GreaterOrEqual(t, got, n, "lost")
			if name == "RabbitMQ" {
				require.LessOrEqual(t, got, n+10)
			}
		})
	}
}

func TestRedelivery(t *testing.T) {
	t.Parallel()
	t.Run("packet ids used up by a full queue", testPacketIdsUsedUpByAFullQueue)
	t.Run("session used by another process", testSessionUsedByAnotherProcess)
	t.Run("old copy of journal is restored", testOldCopyOfJournalIsRestored)
}

// The broker assigns packet ids to messages that it drops from a full queue. The bridge is
// killed before it has read the later messages.
func testPacketIdsUsedUpByAFullQueue(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "real brokers, up to 90,000 messages")
	m := peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, Extra: []string{"max_queued_messages 1000"}})
	r := proof.NewRig(t, proof.RigOptions{Broker: m.Addr})
	for range 15 {
		storeEqual(t, r, 1000)
	}
	r.Bridge.Stop()
	publishEqual(t, r.Addr, 57_000, false)
	r.StartBridge()
	r.AwaitSession()
	proof.Mark(t, r.Addr)
	proof.AwaitMarker(t, r.JS)
	storeEqual(t, r, 1000)
	before := storedCount(t, r.JS)
	r.Bridge.Freeze()
	publishEqual(t, r.Addr, 500, false)
	r.Bridge.Kill9()
	r.StartBridge()
	r.AwaitSession()
	awaitStored(t, r.JS, before+500)
	storeEqual(t, r, 1)
	require.Equal(t, before+501, storedCount(t, r.JS))
}

// A process is suspended while another one owns its session. By the time it resumes, the packet
// ids have wrapped around.
func testSessionUsedByAnotherProcess(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "real brokers, up to 90,000 messages")
	m := peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true})
	a := proof.NewRig(t, proof.RigOptions{Broker: m.Addr, Env: []string{"BRIDGE_ADMIN_LISTEN=127.0.0.1:0"}})
	inFlight := func(b *peers.Process) int {
		var status struct {
			Totals struct {
				InFlight int `json:"in_flight"`
			}
		}
		require.Equal(t, http.StatusOK, proof.GetPage(t, b, 0, "/status", &status))
		return status.Totals.InFlight
	}
	storeEqual(t, a, 65_000)
	require.Eventually(t, func() bool { return inFlight(a.Bridge) == 0 }, testrun.Timeout, 50*time.Millisecond)
	a.Bridge.Freeze()
	proxy := peers.Proxy(t, a.NATS.Addr)
	b := peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Env: []string{
		"MQTT_URL=mqtt://" + a.Addr, "NATS_URL=nats://" + proxy.Addr, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_STATE_DIR=" + t.TempDir(), "BRIDGE_ADMIN_LISTEN=127.0.0.1:0", "BRIDGE_LOG_FORMAT=json", "BRIDGE_LOG_LEVEL=debug",
	}})
	b.Log().Await(t, 0, "mqtt connected")
	publishEqual(t, a.Addr, 20_000, false)
	proof.Mark(t, a.Addr)
	proof.AwaitMarker(t, a.JS)
	// Messages whose PUBACK the broker had not read were delivered to the second process too.
	before := storedCount(t, a.JS)
	require.GreaterOrEqual(t, before, 85_001)
	proxy.Down()
	publishEqual(t, a.Addr, 150, false)
	require.Eventually(t, func() bool { return inFlight(b) > 0 }, testrun.Timeout, 50*time.Millisecond)
	b.Kill9()
	a.Bridge.Thaw()
	awaitStored(t, a.JS, before+150)
	storeEqual(t, a, 1)
	require.Equal(t, before+151, storedCount(t, a.JS))
}

// An old copy of the journal is restored.
func testOldCopyOfJournalIsRestored(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "real brokers, up to 90,000 messages")
	m := peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true})
	r := proof.NewRig(t, proof.RigOptions{Broker: m.Addr, NATSProxy: true})
	storeEqual(t, r, 65_000)
	copied, err := os.ReadFile(r.Journal())
	require.NoError(t, err)
	storeEqual(t, r, 5000)
	awaitConfirmed(t, r.Journal()) // otherwise the broker redelivers messages missing from the copy
	r.NATSProxies[0].Down()
	publishEqual(t, r.Addr, 150, false)
	r.Bridge.Kill9()
	require.NoError(t, os.WriteFile(r.Journal(), copied, 0o600))
	r.NATSProxies[0].Up()
	r.StartBridge()
	r.AwaitSession()
	awaitStored(t, r.JS, 70_150)
	require.Equal(t, 70_150, storedCount(t, r.JS))
}
