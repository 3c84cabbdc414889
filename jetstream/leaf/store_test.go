package leaf_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/leaf"
	"mqtt-nats-bridge/jetstream/streams"
)

// powerCut puts a store into the state after a power cut in use.
func powerCut(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mqtt-nats-bridge.json"), []byte(`{"boot":"another"}`), 0o600))
}

// A power cut sets the store back to its state on disk, here to 300 messages, while the hub has
// 500. The next messages must not get the numbers 301 to 500 again, which the hub would skip. A
// store with messages needs the hub's report for that, an empty one only the clock.
func TestLeafStoreRollback(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes half a minute to source again")
	for name, keep := range map[string]int{"with messages": 300, "empty": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js, streams, o := newSite(t)
			l := startLeaf(t, o)
			fill(t, l, 0, keep)
			require.NoError(t, l.Close())
			old := t.TempDir()
			require.NoError(t, os.CopyFS(old, os.DirFS(o.StoreDir)))

			nextNumbers()
			l = startLeaf(t, o)
			require.False(t, l.Rebooted(), "it was closed")
			apply(t, js, streams)
			fill(t, l, keep, 500-keep)
			awaitDrained(t, js, l, streams)
			require.NoError(t, l.Close())

			o.StoreDir = old
			powerCut(t, old)
			l = startLeaf(t, o)
			require.True(t, l.Rebooted())
			ask, err := l.Renumber(natstest.Context(t), nil)
			require.NoError(t, err)
			require.Equal(t, keep > 0, ask)
			renumber(t, js, l, streams)
			require.False(t, l.Rebooted())
			fill(t, l, 500, 3)
			awaitDrained(t, js, l, streams)
			requireNumbers(t, js, 503)
		})
	}
}

// renumber waits until the hub's report allows the store to continue.
func renumber(t *testing.T, hub natsjs.JetStream, l *leaf.Leaf, streams []streams.Spec) {
	t.Helper()
	require.Eventually(t, func() bool {
		at, _, err := leaf.SourcedUpTo(natstest.Context(t), hub, streams)
		if err != nil {
			return false
		}
		ask, err := l.Renumber(natstest.Context(t), at)
		require.NoError(t, err)
		return !ask
	}, drainTimeout, 50*time.Millisecond)
}

// After a power cut the hub's number may come from another bridge with the same domain. It proves
// nothing about the local messages until the hub queries this very store.
func TestLeafStoreBehindAnotherBridge(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes half a minute to source again")
	js, streams, o := newSite(t)
	l := startLeaf(t, o)
	fill(t, l, 0, 300)
	require.NoError(t, l.Close())
	powerCut(t, o.StoreDir)

	nextNumbers()
	other := o
	other.StoreDir = t.TempDir()
	second := startLeaf(t, other)
	awaitLink(t, second)
	apply(t, js, streams)
	fill(t, second, 300, 200)
	awaitDrained(t, js, second, streams)
	at, _, err := leaf.SourcedUpTo(natstest.Context(t), js, streams)
	require.NoError(t, err)
	require.NoError(t, second.Close())

	l = startLeaf(t, o)
	all, err := l.Backlog(natstest.Context(t), at)
	require.NoError(t, err)
	require.True(t, all[0].Ahead())
	ask, err := l.Renumber(natstest.Context(t), at)
	require.NoError(t, err)
	require.True(t, ask)
	renumber(t, js, l, streams)
	awaitDrained(t, js, l, streams)
	s, err := js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 500, s.CachedInfo().State.Msgs)
}

// A copy of the store is restored after a clean stop, while the hub cannot be asked. Messages that
// are stored then get numbers that the hub skips.
func TestLeafStoreRestored(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes half a minute to source again")
	js, streams, o := newSite(t)
	l := startLeaf(t, o)
	fill(t, l, 0, 300)
	require.NoError(t, l.Close())
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(o.StoreDir)))
	l = startLeaf(t, o)
	apply(t, js, streams)
	awaitDrained(t, js, l, streams)
	fill(t, l, 300, 200)
	awaitDrained(t, js, l, streams)
	require.NoError(t, l.Close())

	o.StoreDir = copied
	for _, restarts := range []string{"", "restarted"} {
		l = startLeaf(t, o)
		if restarts == "" {
			fill(t, l, 500, 300) // more than the hub has
		}
		at, _, err := leaf.SourcedUpTo(natstest.Context(t), js, streams)
		require.NoError(t, err)
		require.NoError(t, l.ConfirmSequences(at))
		up, problem := l.Link()
		require.False(t, up)
		require.Contains(t, problem, "waiting for the hub")
		all, err := l.Backlog(natstest.Context(t), at)
		require.NoError(t, err)
		require.True(t, all[0].Ahead(), restarts)
		require.NoError(t, l.Purge(natstest.Context(t), at))
		all, err = l.Backlog(natstest.Context(t), nil)
		require.NoError(t, err)
		require.EqualValues(t, 600, all[0].Messages, "nothing is removed")
		require.NoError(t, l.Close())
	}
}

// A restored empty store begins at a number from the clock.
func TestLeafStoreRestoredEmpty(t *testing.T) {
	t.Parallel()
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	l := startLeaf(t, o)
	require.NoError(t, l.Close())
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(o.StoreDir)))
	l = startLeaf(t, o)
	fill(t, l, 0, 10)
	all, err := l.Backlog(natstest.Context(t), nil)
	require.NoError(t, err)
	last := all[0].Last
	require.NoError(t, l.Close())
	nextNumbers()
	o.StoreDir = copied
	l = startLeaf(t, o)
	fill(t, l, 10, 1)
	all, err = l.Backlog(natstest.Context(t), nil)
	require.NoError(t, err)
	require.Greater(t, all[0].Last, last)
}

func TestLeafStore(t *testing.T) {
	t.Parallel()
	t.Run("rollback is remembered until renumbered", testRollbackIsRememberedUntilRenumbered)
	t.Run("killed bridge is not a power cut", testKilledBridgeIsNotAPowerCut)
	t.Run("two bridges cannot share a store", testTwoBridgesCannotShareAStore)
	t.Run("paused store keeps messages and rejects new", testPausedStoreKeepsMessagesAndRejectsNew)
}

// A bridge that waits for the hub's report is not ready and may be restarted. The reason must
// survive the restart.
func testRollbackIsRememberedUntilRenumbered(t *testing.T) {
	t.Parallel()
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	l := startLeaf(t, o)
	fill(t, l, 0, 10)
	require.NoError(t, l.Close())
	powerCut(t, o.StoreDir)

	l = startLeaf(t, o)
	require.True(t, l.Rebooted())
	for _, hub := range []map[string]uint64{nil, {}} {
		ask, err := l.Renumber(natstest.Context(t), hub)
		require.NoError(t, err)
		require.True(t, ask, "the hub does not report on the stream that has messages")
	}
	path := filepath.Join(o.StoreDir, "mqtt-nats-bridge.json")
	running, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())

	l = startLeaf(t, o)
	require.True(t, l.Rebooted(), "stopped in order in between")
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(path, running, 0o600))
	l = startLeaf(t, o)
	require.True(t, l.Rebooted(), "killed in between")

	ask, err := l.Renumber(natstest.Context(t), map[string]uint64{"TELEMETRY": 1, "QUARANTINE": 0})
	require.NoError(t, err)
	require.False(t, ask)
	running, err = os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(path, running, 0o600))
	l = startLeaf(t, o)
	require.False(t, l.Rebooted(), "killed when the numbers had moved on")
}

func testKilledBridgeIsNotAPowerCut(t *testing.T) {
	t.Parallel()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Skip("this system does not distinguish its boots")
	}
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	l := startLeaf(t, o)
	mark, err := os.ReadFile(filepath.Join(o.StoreDir, "mqtt-nats-bridge.json"))
	require.NoError(t, err)
	require.Contains(t, string(mark), string(boot[:36]))
	require.Contains(t, string(mark), `"clean":false`)
	require.NoError(t, l.Close())
	// The state after a kill.
	require.NoError(t, os.WriteFile(filepath.Join(o.StoreDir, "mqtt-nats-bridge.json"), mark, 0o600))
	l = startLeaf(t, o)
	require.False(t, l.Rebooted())
}

func testTwoBridgesCannotShareAStore(t *testing.T) {
	t.Parallel()
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	first := startLeaf(t, o)
	_, err := leaf.Open(natstest.Context(t), o)
	require.ErrorIs(t, err, leaf.ErrStoreLocked)
	require.ErrorContains(t, err, o.StoreDir)
	require.NoError(t, first.Close())
	startLeaf(t, o)
}

// A paused store refuses new messages and keeps the existing ones.
func testPausedStoreKeepsMessagesAndRejectsNew(t *testing.T) {
	t.Parallel()
	l := startLeaf(t, leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a"))
	fill(t, l, 0, 10)
	require.NoError(t, l.Pause(natstest.Context(t), true))
	_, err := inProcess(t, l).Publish(natstest.Context(t), "tenant.acme.device.dev-1.telemetry", nil)
	require.ErrorContains(t, err, "maximum bytes exceeded")
	all, err := l.Backlog(natstest.Context(t), nil)
	require.NoError(t, err)
	require.EqualValues(t, 10, all[0].Messages)
	require.NoError(t, l.Pause(natstest.Context(t), false))
	fill(t, l, 10, 10)
	all, err = l.Backlog(natstest.Context(t), map[string]uint64{"TELEMETRY": all[0].Last})
	require.NoError(t, err)
	require.EqualValues(t, 10, all[0].Messages, "of which the hub has the first ten")
	require.Positive(t, all[0].Bytes)
	require.WithinDuration(t, time.Now(), all[0].Oldest, time.Minute)
}
