package leafnode

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/leaf"
)

// alone is a leaf node without a hub, with its JetStream.
func alone(t *testing.T, env ...string) (node *leaf.Leaf, c *config.Config, local natsjs.JetStream) {
	t.Helper()
	const nowhere = "127.0.0.1:1"
	c, err := config.Load(config.Sources{Env: append(env, "MQTT_URL=mqtt://"+nowhere, "NATS_URL=nats://"+nowhere,
		"BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_URL=nats-leaf://"+nowhere,
		"BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR="+t.TempDir())})
	require.NoError(t, err)
	compiled, err := plan.Compile(c)
	require.NoError(t, err)
	node, err = leaf.Open(t.Context(), plan.LeafOptions(c, compiled.Streams))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	nc, err := nats.Connect("", nats.InProcessServer(node.InProcess()))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	local, err = natsjs.New(nc)
	require.NoError(t, err)
	return node, c, local
}

func TestNodeLimits(t *testing.T) {
	t.Parallel()
	t.Run("hub ahead of local store is ignored", testHubAheadOfLocalStoreIsIgnored)
	t.Run("store paused without an answer is resumed", testStorePausedWithoutAnAnswerIsResumed)
}

// If a hub claims more messages than the local store ever had, it may lack local messages: the
// store was restored from an older copy, or another bridge uses the domain.
func testHubAheadOfLocalStoreIsIgnored(t *testing.T) {
	t.Parallel()
	node, c, local := alone(t)
	ack, err := local.Publish(t.Context(), "tenant.acme.device.dev-1.telemetry", nil)
	require.NoError(t, err)

	n := &Node{node: node, config: c.NATS.Leaf, log: zerolog.Nop(), health: newConditions(zerolog.Nop(), func() uint64 { return 0 })}
	look := func(hub map[string]uint64) {
		n.view.hub = hub
		require.NoError(t, n.pollStore(t.Context()))
		require.NoError(t, n.enforceLimits(t.Context()))
	}
	ahead := map[string]uint64{"TELEMETRY": ack.Sequence + 1000, "SHADOW": ack.Sequence * 2}
	look(ahead)
	require.Len(t, n.Problems(), 1)
	require.Contains(t, n.Problems()[0].Problem, "the hub reports more messages")
	require.EqualValues(t, 1, n.Status().Messages, "it waits for the hub")
	_, err = local.Publish(t.Context(), "tenant.acme.device.dev-1.telemetry", nil)
	require.Error(t, err, "nothing is taken")
	require.NoError(t, node.Purge(t.Context(), ahead))
	stream, err := local.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs, "nothing is removed")
	stream, err = local.Stream(t.Context(), "SHADOW")
	require.NoError(t, err)
	require.EqualValues(t, 2*ack.Sequence, stream.CachedInfo().State.LastSeq, "an empty stream's numbers move on")

	look(map[string]uint64{"TELEMETRY": ack.Sequence, "SHADOW": ack.Sequence * 2})
	require.Empty(t, n.Problems())
	_, err = local.Publish(t.Context(), "tenant.acme.device.dev-1.telemetry", nil)
	require.NoError(t, err)
}

// A stalled disk answers too late. The streams are paused although the answer was an error, and
// must be resumed like any others.
func testStorePausedWithoutAnAnswerIsResumed(t *testing.T) {
	t.Parallel()
	node, c, local := alone(t, "BRIDGE_NATS_LEAF_MAX_AGE=1h")
	store := func() error {
		_, err := local.Publish(t.Context(), "tenant.acme.device.dev-1.telemetry", nil)
		return err
	}

	n := &Node{node: node, config: c.NATS.Leaf, health: newConditions(zerolog.Nop(), func() uint64 { return 0 })}
	n.view.backlog = []leaf.Backlog{{Stream: "TELEMETRY", Oldest: time.Now().Add(-2 * time.Hour)}}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, n.enforceLimits(late))
	require.NoError(t, node.Pause(t.Context(), true), "what the server did all the same")
	require.Error(t, store())
	n.view.backlog[0].Oldest = time.Now()
	require.NoError(t, n.enforceLimits(t.Context()))
	require.NoError(t, store())
}
