package sleep_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/sleep"
)

func TestFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		require.True(t, sleep.For(ctx, 2*time.Second))
		require.Equal(t, 2*time.Second, time.Since(begun))
		require.False(t, sleep.For(ctx, 2*time.Second))
		require.Equal(t, 3*time.Second, time.Since(begun))
	})
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun, silent := time.Now(), make(chan struct{})
		require.True(t, sleep.Await(ctx, func() { time.Sleep(time.Second) }))
		require.Equal(t, time.Second, time.Since(begun))
		require.False(t, sleep.Await(ctx, func() { <-silent }))
		require.Equal(t, 3*time.Second, time.Since(begun))
		close(silent)
	})
}
