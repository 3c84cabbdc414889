package leaf

import (
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// leafInProcess runs an in-process bridge whose link to the hub can be cut.
func leafInProcess(t *testing.T, more proof.Settings) (bridge *daemon.Bridge, b *broker.Broker, addr string, link *peers.TCPProxy, js natsjs.JetStream) {
	t.Helper()
	leaf := testrun.Address(t)
	hub := proof.StartJetStream(t, embedded.Options{Configure: func(o *natsd.Options) {
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", leaf.Port
	}})
	js = proof.ConnectNATS(t, hub.URL())
	link = peers.Proxy(t, leaf.String())
	b, addr = proof.StartBroker(t, broker.Options{})
	s := proof.PlainSettings("mqtt://"+addr, hub.URL()).
		With("nats.mode", "leaf").With("nats.leaf.url", "nats-leaf://"+link.Addr).
		With("nats.leaf.domain", "site-a").With("nats.leaf.store_dir", t.TempDir())
	for path, value := range more {
		s.With(path, value)
	}
	bridge = proof.StartInProcess(t, s)
	proof.AwaitReady(t, bridge)
	proof.AwaitSubscribed(t, bridge)
	proof.Eventually(t, func() bool {
		_, err := js.Stream(t.Context(), "QUARANTINE") // the last stream to be created
		return bridge.Status(t.Context()).Leaf.Link.Connected && err == nil
	}, func() any { return bridge.Status(t.Context()).Leaf })
	return bridge, b, addr, link, js
}

func TestLocalStore(t *testing.T) {
	t.Parallel()
	t.Run("full store stops intake and discards nothing", testFullStoreStopsIntakeAndDiscardsNothing)
	t.Run("old backlog stops intake and discards nothing", testOldBacklogStopsIntakeAndDiscardsNothing)
}

// requireAllAtTheHub waits for the end of the load and compares it with the hub's stream.
func requireAllAtTheHub(t *testing.T, l *proof.Load, addr string, js natsjs.JetStream) {
	t.Helper()
	l.AwaitEnd(t)
	proof.Mark(t, addr)
	proof.AwaitMarker(t, js)
	v := l.Reconcile(proof.ReadLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
}

// A full local store refuses messages: none is acknowledged, and the broker queues new ones.
// Once there is room, all are stored in order.
func testFullStoreStopsIntakeAndDiscardsNothing(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes a minute to source again")
	bridge, b, addr, link, js := leafInProcess(t, proof.Settings{"nats.leaf.max_bytes": "16MiB"})
	link.Down()
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 20, Total: 10_000, Size: 4096})
	l.Release(l.Total)
	p := proof.AwaitProblem(t, bridge, "leaf", "the local store is full", "16MiB", "nats.leaf.max_bytes")
	require.False(t, p.Since.IsZero())
	s := bridge.Status(t.Context()).Leaf
	require.True(t, s.Full)
	require.GreaterOrEqual(t, s.UsedBytes, s.MaxBytes)
	require.Less(t, bridge.Totals().Stored, uint64(l.Total))
	require.False(t, bridge.Status(t.Context()).Leaf.Link.Connected, "there is no other way to the hub")
	link.Up()
	requireAllAtTheHub(t, l, addr, js)
	require.Zero(t, b.Dropped())
	proof.AwaitReady(t, bridge)
}

// A backlog older than max_age pauses ingest. It is not discarded: the hub receives it when it
// is reachable again.
func testOldBacklogStopsIntakeAndDiscardsNothing(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes a minute to source again")
	bridge, b, addr, link, js := leafInProcess(t, proof.Settings{"nats.leaf.max_age": "1s"})
	link.Down()
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 20, Total: 2000})
	l.Release(1000)
	require.True(t, l.Await(1000))
	proof.AwaitProblem(t, bridge, "leaf", "exceeds nats.leaf.max_age")
	l.Release(2000)
	proof.AwaitProblem(t, bridge, "jetstream", "10077")
	require.Less(t, bridge.Totals().Stored, uint64(l.Total))
	s := bridge.Status(t.Context()).Leaf
	require.True(t, s.Full)
	require.False(t, s.Link.Connected, "there is no other way to the hub")
	link.Up()
	requireAllAtTheHub(t, l, addr, js)
	require.Zero(t, b.Dropped())
	proof.AwaitReady(t, bridge)
}
