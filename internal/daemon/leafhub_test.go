package daemon

import (
	"slices"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

// leafHub is a hub with a listener for leaf nodes, and its URL.
func leafHub(t *testing.T) (hub *embedded.Server, leafURL string) {
	t.Helper()
	leaf := testrun.Address(t)
	hub, err := embedded.Open(embedded.Options{
		StoreDir: t.TempDir(), Port: -1, ServerName: "hub",
		Configure: func(o *natsd.Options) { o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", leaf.Port },
	})
	require.NoError(t, err)
	t.Cleanup(hub.Close)
	return hub, "nats-leaf://" + leaf.String()
}

func leafPeers(t *testing.T, b *broker.Broker, hub *embedded.Server, leafURL string) []string {
	return append(peers(b, hub), "BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_URL="+leafURL,
		"BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR="+t.TempDir())
}

// awaitHubStreams returns once the hub's streams are in the wanted state.
func awaitHubStreams(t *testing.T, b *Bridge) {
	t.Helper()
	require.Eventually(t, func() bool { return len(b.control.problems()) == 0 }, testrun.Timeout, 5*time.Millisecond)
}

func TestLeafHub(t *testing.T) {
	t.Parallel()
	t.Run("deleted hub stream is created again and filled", testDeletedHubStreamIsCreatedAgainAndFilled)
	t.Run("hub that stops sourcing is a problem", testHubThatStopsSourcingIsAProblem)
	t.Run("duplicate at hub does not pause store", testDuplicateAtHubDoesNotPauseStore)
}

// A stream that is deleted at the hub while the bridge is connected no longer sources from this
// site, and no connection ends to report it.
func testDeletedHubStreamIsCreatedAgainAndFilled(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	hub, leafURL := leafHub(t)
	b := run(t, leafPeers(t, devices, hub, leafURL)...)
	waitReady(t, b)
	awaitHubStreams(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.NoError(t, b.control.js.DeleteStream(t.Context(), "TELEMETRY"))
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 4)
	require.Eventually(t, func() bool {
		s, err := b.control.js.Stream(t.Context(), "TELEMETRY")
		return err == nil && s.CachedInfo().State.Msgs >= 4
	}, testrun.Timeout, 100*time.Millisecond)
}

// With streams.manage off, only the hub itself reports that it does not source from this site.
func testHubThatStopsSourcingIsAProblem(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub has half a minute to source")
	devices := attesting(t)
	hub, leafURL := leafHub(t)
	env := leafPeers(t, devices, hub, leafURL)
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	compiled, err := plan.Compile(c)
	require.NoError(t, err)
	b := run(t, append(env, "BRIDGE_STREAMS_MANAGE=off")...)
	_, err = streams.Manage(t.Context(), b.control.js, streams.ManageCreate, compiled.Streams, nil)
	require.NoError(t, err)
	waitReady(t, b)
	telemetry, err := b.control.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	cfg := telemetry.CachedInfo().Config
	sources := cfg.Sources
	cfg.Sources = nil
	_, err = b.control.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(b.Problems(), func(p Problem) bool { return p.Component == "streams" })
	}, testrun.Timeout, 100*time.Millisecond)
	cfg.Sources = sources
	_, err = b.control.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	require.Eventually(t, func() bool { ready, _ := b.Ready(); return ready }, testrun.Timeout, 100*time.Millisecond)
}

// The hub skips a message that it already has, and counts only stored ones: such a message seems to
// wait until another one follows. If that paused the store, none could follow.
func testDuplicateAtHubDoesNotPauseStore(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	hub, leafURL := leafHub(t)
	b := run(t, append(leafPeers(t, devices, hub, leafURL), "BRIDGE_NATS_LEAF_MAX_AGE=2s")...)
	awaitHubStreams(t, b)
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 1)
	awaitAtHub(t, b, 1)

	nc, err := nats.Connect("", nats.InProcessServer(b.leaf.InProcess()))
	require.NoError(t, err)
	defer nc.Close()
	local, err := natsjs.New(nc)
	require.NoError(t, err)
	for _, js := range []natsjs.JetStream{b.control.js, local} {
		_, err := js.Publish(t.Context(), "tenant.acme.device.dev-1.telemetry", nil, natsjs.WithMsgID("both"))
		require.NoError(t, err)
	}
	began := time.Now()
	require.Eventually(t, func() bool {
		s := b.leaf.Status()
		return s.Messages == 1 && time.Since(s.Oldest) > 4*time.Second && time.Since(began) > 4*time.Second
	}, testrun.Timeout, 10*time.Millisecond)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 1)
	awaitAtHub(t, b, 3)
	waitReady(t, b)
}

func awaitAtHub(t *testing.T, b *Bridge, messages uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := b.control.js.Stream(t.Context(), "TELEMETRY")
		return err == nil && s.CachedInfo().State.Msgs == messages
	}, 2*testrun.Timeout, 10*time.Millisecond)
}
