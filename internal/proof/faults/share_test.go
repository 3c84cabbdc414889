package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// sharing starts a bridge with the given numbers of active and retiring lanes in a $share
// group, and waits until all are connected.
func sharing(t testing.TB, broker *peers.MosquittoProcess, natsURL, state string, lanes, retiring int) *peers.Process {
	t.Helper()
	b := peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Env: []string{
		"MQTT_URL=mqtt://" + broker.Addr, "NATS_URL=" + natsURL,
		"BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_SHARE=workers", fmt.Sprint("BRIDGE_LANES_COUNT=", lanes), fmt.Sprint("BRIDGE_LANES_RETIRING=", retiring),
		"BRIDGE_LIMITS_DEVICE_RATE=0", "BRIDGE_STATE_DIR=" + state, "BRIDGE_ADMIN_LISTEN=", "BRIDGE_LOG_FORMAT=json",
	}})
	said := 0
	for range lanes + retiring {
		said = b.Log().Await(t, said, "mqtt connected")
	}
	return b
}

// markUntilStored publishes markers until one is stored. The broker may route some of them to a
// disconnected member of the group.
func markUntilStored(t testing.TB, addr string, js natsjs.JetStream, run int) {
	t.Helper()
	conn, err := proof.DialMQTT(addr, "marker", "")
	require.NoError(t, err)
	defer conn.Close()
	s, err := js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	deadline := time.Now().Add(testrun.Timeout)
	for i := 0; ; i++ {
		require.True(t, time.Now().Before(deadline), "no marker is stored")
		name := fmt.Sprintf("marker-%d-%d", run, i)
		_, err := conn.Write(wire.AppendPublish(nil, wire.QoS1, "tenant/proof/device/"+name+"/telemetry", proof.PacketID(i), []byte("the end")))
		require.NoError(t, err)
		proof.ReadPuback(t, conn, proof.PacketID(i))
		for range 20 {
			for k := range i + 1 {
				if _, err := s.GetLastMsgForSubject(t.Context(), fmt.Sprintf("tenant.proof.device.marker-%d-%d.telemetry", run, k)); err == nil {
					return
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func TestShareGroup(t *testing.T) {
	t.Parallel()
	t.Run("cleared session gets no new messages", testClearedSessionGetsNoNewMessages)
	t.Run("retired lane leaves nothing behind", testRetiredLaneLeavesNothingBehind)
}

// twoMembers runs and stops a bridge of two lanes, and returns its broker, its nats-server and
// its state directory.
func twoMembers(t *testing.T) (broker *peers.MosquittoProcess, server *peers.NATSProcess, js natsjs.JetStream, state string) {
	t.Helper()
	broker = peers.Mosquitto(t, peers.MosquittoOptions{MaxInflight: 1000})
	server = peers.NATSServer(t, peers.NATSOptions{})
	state = t.TempDir()
	require.Zero(t, sharing(t, broker, server.URL, state, 2, 0).Stop())
	return broker, server, proof.ConnectNATS(t, server.URL), state
}

// In a $share group, a disconnected member still receives its share. `sessions clear` removes
// the member from the group and deletes its queued messages.
func testClearedSessionGetsNoNewMessages(t *testing.T) {
	t.Parallel()
	broker, server, js, state := twoMembers(t)
	// lanes.count goes from 2 to 1.
	b := sharing(t, broker, server.URL, state, 1, 0)

	const n = 2000
	l := proof.StartLoad(t, proof.LoadOptions{Addr: broker.Addr, Devices: 50, Total: n})
	l.AwaitEnd(t)
	markUntilStored(t, broker.Addr, js, 1)
	stored := len(proof.ReadLoad(t, js, "TELEMETRY"))
	t.Logf("with one of two members away, %d of %d messages are stored; the others wait for it", stored, n)
	require.Less(t, stored, n)

	clear := peers.Bridge(t, peers.BridgeOptions{Args: []string{"sessions", "clear", "bridge-1", "--yes"}, Env: []string{
		"MQTT_URL=mqtt://" + broker.Addr, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_SHARE=workers",
	}})
	require.Zero(t, clear.Wait())
	proof.RequireSays(t, clear.Log(), "bridge-1: session and its queued messages deleted")

	l = proof.StartLoad(t, proof.LoadOptions{Addr: broker.Addr, Devices: 50, Total: n, Topic: "later"})
	l.AwaitEnd(t)
	markUntilStored(t, broker.Addr, js, 2)
	v := l.Reconcile(only(proof.ReadLoad(t, js, "TELEMETRY"), ".later"))
	require.True(t, v.Clean(), v)
	require.Equal(t, n, v.Stored)

	// Back to two lanes: the deleted messages of the second are not delivered.
	require.Zero(t, b.Stop())
	b = sharing(t, broker, server.URL, state, 2, 0)
	proof.RequireSays(t, b.Log(), "the broker has lost the session")
	markUntilStored(t, broker.Addr, js, 3)
	require.Zero(t, b.Stop())
	require.Equal(t, stored, len(proof.ReadLoad(t, js, "TELEMETRY"))-n)
}

// Removes a lane without loss: its queued messages are stored first.
func testRetiredLaneLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	broker, server, js, state := twoMembers(t)
	const n = 2000
	load1 := proof.StartLoad(t, proof.LoadOptions{Addr: broker.Addr, Devices: 50, Total: n})
	load1.AwaitEnd(t) // half of it is queued for bridge-1

	b := sharing(t, broker, server.URL, state, 1, 1)
	proof.RequireSays(t, b.Log(), "retiring, no new messages for this session")
	load2 := proof.StartLoad(t, proof.LoadOptions{Addr: broker.Addr, Devices: 50, Total: n, Topic: "later"})
	load2.AwaitEnd(t)
	s, err := js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	proof.Eventually(t, func() bool {
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		return info.State.Msgs >= 2*n
	}, func() any { return s.CachedInfo().State })
	require.Zero(t, b.Stop())

	clear := peers.Bridge(t, peers.BridgeOptions{Args: []string{"sessions", "clear", "bridge-1", "--yes"}, Env: []string{
		"MQTT_URL=mqtt://" + broker.Addr, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_SHARE=workers",
	}})
	require.Zero(t, clear.Wait())
	all := proof.ReadLoad(t, js, "TELEMETRY")
	require.Equal(t, 2*n, len(all))
	for topic, l := range map[string]*proof.Load{".telemetry": load1, ".later": load2} {
		v := l.Reconcile(only(all, topic))
		require.Zero(t, v.Lost, v)
		require.Zero(t, v.Duplicated, v)
		// Order is guaranteed per lane only, and each device used two lanes.
	}
}

func only(all []proof.Stored, suffix string) (some []proof.Stored) {
	for _, s := range all {
		if strings.HasSuffix(s.Subject, suffix) {
			some = append(some, s)
		}
	}
	return some
}

// A plain lane is killed and restarted on another host without its journal. Messages in flight
// are redelivered under new ids; none is lost.
func TestPlainLaneWithoutJournal(t *testing.T) {
	t.Parallel()
	rate, total := 3000, 20_000
	if testing.Short() {
		total = 6000
	}
	r := proof.NewRig(t, proof.RigOptions{})
	l := proof.StartLoad(t, proof.LoadOptions{Addr: r.Broker.Addr, Devices: 200, Total: total, Rate: rate})
	l.Release(total)
	require.True(t, l.Await(total/2))
	// The kill proves something only if messages are in flight, so freeze the server while the
	// load continues.
	r.NATS.Freeze()
	sent := l.Acked()
	require.True(t, l.Await(min(sent+rate/4, total)))
	r.NATS.Thaw()
	r.Bridge.Kill9()
	elsewhere := peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Env: []string{
		"MQTT_URL=mqtt://" + r.Broker.Addr, "NATS_URL=" + r.NATS.URL, "BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0", "BRIDGE_STATE_DIR=" + t.TempDir(), "BRIDGE_ADMIN_LISTEN=", "BRIDGE_LOG_FORMAT=json",
	}})
	r.Bridge = elsewhere
	v := r.Finish(l)
	t.Logf("killed and started without its journal: %v", v)
	require.Zero(t, v.Lost, v)
	require.Zero(t, v.Foreign, v)
	if keepsWindow(t) {
		require.LessOrEqual(t, v.Duplicated, 1000, "the broker's in-flight window")
	}
}
