package daemon

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

// Nine servers that accept and say nothing: a connect timeout for each is more than
// the test has patience.
func TestTheStartDoesNotWaitForServersThatSayNothing(t *testing.T) {
	t.Parallel()
	var urls []string
	var silent []net.Listener
	for range 9 {
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
		require.NoError(t, err)
		silent, urls = append(silent, l), append(urls, "nats://"+l.Addr().String())
	}
	c, err := config.Load(config.Sources{Env: append(brokerOf(attesting(t)), "NATS_URL="+strings.Join(urls, ","))})
	require.NoError(t, err)
	started := make(chan *Bridge, 1)
	go func() {
		b, err := Start(t.Context(), Options{Config: c, Log: zerolog.Nop()})
		assert.NoError(t, err)
		started <- b
	}()
	var b *Bridge
	select {
	case b = <-started:
		ready, problems := b.Ready()
		require.False(t, ready)
		require.Equal(t, "nats", problems[0].Component)
	case <-time.After(patience):
		require.Fail(t, "nobody would answer at /livez")
	}
	for _, l := range silent { // or the stop would wait for attempts in progress
		require.NoError(t, l.Close())
	}
	require.NoError(t, b.Stop(t.Context()))
}
