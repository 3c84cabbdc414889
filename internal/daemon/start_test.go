package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
)

func TestStart(t *testing.T) {
	t.Parallel()
	t.Run("silent servers delay neither start nor stop", testSilentServersDelayNeitherStartNorStop)
	t.Run("silent hub does not keep leaf store open", testSilentHubDoesNotKeepLeafStoreOpen)
	t.Run("nothing is sent before first stream check", testNothingIsSentBeforeFirstStreamCheck)
}

// Connecting to each of them once takes longer than the test waits.
func testSilentServersDelayNeitherStartNorStop(t *testing.T) {
	t.Parallel()
	urls := natstest.SilentServers(t)
	c, err := config.Load(config.Sources{Env: append(brokerOf(attesting(t)), "BRIDGE_STOP_TIMEOUT=1s", "NATS_URL="+urls)})
	require.NoError(t, err)
	started, stopped := make(chan *Bridge, 1), make(chan error, 1)
	go func() {
		b, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop()})
		assert.NoError(t, err)
		started <- b
		if b != nil {
			ready, problems := b.Ready()
			assert.False(t, ready)
			assert.Equal(t, "nats", problems[0].Component)
			stopped <- b.Close(context.Background())
		}
	}()
	select {
	case <-started:
	case <-time.After(testrun.Timeout):
		require.Fail(t, "nobody would answer at /livez")
	}
	select {
	case err := <-stopped:
		require.ErrorIs(t, err, ErrNotClosed)
		require.NotErrorIs(t, err, ErrAbandoned)
	case <-time.After(testrun.Timeout):
		require.Fail(t, "Close waits for the attempt")
	}
}

// A store that was not closed counts as damaged after the host has restarted.
func testSilentHubDoesNotKeepLeafStoreOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hub := natstest.SilentServers(t)
	leaf, _, _ := strings.Cut(hub, ",")
	c, err := config.Load(config.Sources{Env: append(brokerOf(attesting(t)), "BRIDGE_STOP_TIMEOUT=1s", "NATS_URL="+hub, "BRIDGE_NATS_MODE=leaf",
		"BRIDGE_NATS_LEAF_URL="+strings.Replace(leaf, "nats://", "nats-leaf://", 1), "BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR="+dir)})
	require.NoError(t, err)
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop()})
	require.NoError(t, err)
	require.ErrorIs(t, b.Close(context.Background()), ErrNotClosed)
	mark, err := os.ReadFile(filepath.Join(dir, "mqtt-nats-bridge.json"))
	require.NoError(t, err)
	require.Contains(t, string(mark), `"clean":true`)
}

// Streams may be about to be created: messages sent too early would be partly refused and partly
// stored, out of order.
func testNothingIsSentBeforeFirstStreamCheck(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	c, err := config.Load(config.Sources{Env: peers(mqtt, nats)})
	require.NoError(t, err)
	// After lookTimeout nothing waits for the first check any more.
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop(), lookTimeout: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	waitReady(t, b)
	b.control.looked.Store(false)
	publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool {
		_, problems := b.Ready()
		return len(problems) == 1 && strings.Contains(problems[0].Problem, "the first check of the streams")
	}, testrun.Timeout, 10*time.Millisecond)
	require.Zero(t, b.Totals().Stored)
	b.control.looked.Store(true)
	require.Eventually(t, func() bool { return b.Totals().Stored == 3 }, testrun.Timeout, 10*time.Millisecond)
	waitReady(t, b)
}
