package main

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/peers"
)

func TestStreamsApply(t *testing.T) {
	t.Parallel()
	t.Run("plan is empty after apply", testPlanIsEmptyAfterApply)
	t.Run("one conflict prevents all changes", testOneConflictPreventsAllChanges)
	t.Run("leaf site is added as source", testLeafSiteIsAddedAsSource)
}

func testPlanIsEmptyAfterApply(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(context.Background(), natsjs.StreamConfig{
		Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, MaxAge: 1e12,
	})
	require.NoError(t, err)
	at := "--nats-url=" + server.URL()

	plan := peers.Run(t, "streams", "plan", at)
	require.Equal(t, 1, plan.Code, plan.Err)
	require.Empty(t, plan.Err)
	golden.Require(t, "testdata/streams-plan.golden", plan.Out)

	refused := peers.Run(t, "streams", "apply", at)
	require.Equal(t, 2, refused.Code)
	_, err = js.Stream(context.Background(), "TELEMETRY")
	require.ErrorIs(t, err, natsjs.ErrStreamNotFound)

	applied := peers.Run(t, "streams", "apply", "--yes", at)
	require.Zero(t, applied.Code, applied.Err)
	golden.Require(t, "testdata/streams-apply.golden", applied.Out)

	again := peers.Run(t, "streams", "plan", at)
	require.Zero(t, again.Code, again.Out)
	require.Zero(t, peers.Run(t, "streams", "apply", "--yes", at).Code)
}

func testOneConflictPreventsAllChanges(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(context.Background(), natsjs.StreamConfig{
		Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, Storage: natsjs.MemoryStorage,
	})
	require.NoError(t, err)
	got := peers.Run(t, "streams", "apply", "--yes", "--nats-url="+server.URL())
	require.Equal(t, 1, got.Code)
	require.Contains(t, got.Err, "stream SHADOW: storage is memory, must be file")
	_, err = js.Stream(context.Background(), "TELEMETRY")
	require.ErrorIs(t, err, natsjs.ErrStreamNotFound)
}

// A hub whose streams were created in client mode gets this site as a source, and keeps another
// site's source.
func testLeafSiteIsAddedAsSource(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	at := "--nats-url=" + server.URL()
	require.Zero(t, peers.Run(t, "streams", "apply", "--yes", at).Code)
	site := func(domain string) []string {
		return []string{at, "--set=nats.mode=leaf", "--set=nats.leaf.url=nats-leaf://hub", "--set=nats.leaf.domain=" + domain, "--set=nats.leaf.store_dir=" + t.TempDir()}
	}
	for _, domain := range []string{"site-a", "site-b"} {
		plan := peers.Run(t, append([]string{"streams", "plan"}, site(domain)...)...)
		require.Equal(t, 1, plan.Code, plan.Err)
		require.Contains(t, plan.Out, "TELEMETRY of domain "+domain+"\n")
		require.Contains(t, plan.Out, "0 to create, 4 to change, 0 in conflict, 3 as declared")
		applied := peers.Run(t, append([]string{"streams", "apply", "--yes"}, site(domain)...)...)
		require.Zero(t, applied.Code, applied.Err)
		require.Contains(t, applied.Out, "updated stream TELEMETRY\n")
	}
	for _, domain := range []string{"site-a", "site-b"} {
		again := peers.Run(t, append([]string{"streams", "plan"}, site(domain)...)...)
		require.Zero(t, again.Code, again.Out)
	}
}
