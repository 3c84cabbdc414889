package main

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestStreamsArePlannedAppliedAndThenEqual(t *testing.T) {
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

	plan := run(t, "streams", "plan", at)
	require.Equal(t, 1, plan.code, plan.err)
	require.Empty(t, plan.err)
	golden(t, "streams-plan", plan.out)

	refused := run(t, "streams", "apply", at)
	require.Equal(t, 2, refused.code)
	_, err = js.Stream(context.Background(), "TELEMETRY")
	require.ErrorIs(t, err, natsjs.ErrStreamNotFound)

	applied := run(t, "streams", "apply", "--yes", at)
	require.Zero(t, applied.code, applied.err)
	golden(t, "streams-apply", applied.out)

	again := run(t, "streams", "plan", at)
	require.Zero(t, again.code, again.out)
	require.Zero(t, run(t, "streams", "apply", "--yes", at).code)
}

func TestApplyChangesNothingWhereItCannotChangeAll(t *testing.T) {
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
	got := run(t, "streams", "apply", "--yes", "--nats-url="+server.URL())
	require.Equal(t, 1, got.code)
	require.Contains(t, got.err, "stream SHADOW: storage is memory, must be file")
	_, err = js.Stream(context.Background(), "TELEMETRY")
	require.ErrorIs(t, err, natsjs.ErrStreamNotFound)
}

// A hub whose streams were created in client mode gets this site as a source, and
// keeps another's.
func TestApplyAddsTheSiteAsASource(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	at := "--nats-url=" + server.URL()
	require.Zero(t, run(t, "streams", "apply", "--yes", at).code)
	site := func(domain string) []string {
		return []string{at, "--set=nats.mode=leaf", "--set=nats.leaf.url=nats-leaf://hub", "--set=nats.leaf.domain=" + domain, "--set=nats.leaf.store_dir=" + t.TempDir()}
	}
	for _, domain := range []string{"site-a", "site-b"} {
		plan := run(t, append([]string{"streams", "plan"}, site(domain)...)...)
		require.Equal(t, 1, plan.code, plan.err)
		require.Contains(t, plan.out, "TELEMETRY of domain "+domain+"\n")
		require.Contains(t, plan.out, "0 to create, 4 to change, 0 in conflict, 3 as declared")
		applied := run(t, append([]string{"streams", "apply", "--yes"}, site(domain)...)...)
		require.Zero(t, applied.code, applied.err)
		require.Contains(t, applied.out, "updated stream TELEMETRY\n")
	}
	for _, domain := range []string{"site-a", "site-b"} {
		again := run(t, append([]string{"streams", "plan"}, site(domain)...)...)
		require.Zero(t, again.code, again.out)
	}
}
