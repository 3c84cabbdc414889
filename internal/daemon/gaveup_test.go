package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	processes "mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// nats.go closes a connection permanently on an unknown error, and on a line that the server finds
// too long. Under TLS nothing else can detect that first.
func TestConnectionClosed(t *testing.T) {
	t.Parallel()
	tls, ca := processes.NATSTLS(t)
	server := processes.NATSServer(t, processes.NATSOptions{Config: tls})
	for name, connection := range map[string]func(*Bridge) *nats.Conn{
		"control": func(b *Bridge) *nats.Conn { return b.control.nc },
		"live":    func(b *Bridge) *nats.Conn { return b.dynamic.nc },
	} {
		t.Run(name, func(t *testing.T) {
			mqtt := attesting(t)
			c, err := config.Load(config.Sources{Env: append(brokerOf(mqtt), "NATS_URL="+server.URL, "BRIDGE_NATS_TLS_CA="+ca)})
			require.NoError(t, err)
			b, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop()})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return len(b.Problems()) == 0 }, testrun.Timeout, 5*time.Millisecond)
			require.NoError(t, connection(b).Publish(strings.Repeat("x", 8<<10), nil))
			select {
			case err := <-b.Failed():
				require.ErrorContains(t, err, "closed permanently: nats: maximum control line exceeded")
			case <-time.After(testrun.Timeout):
				require.Fail(t, "it goes on without a connection")
			}
			require.NoError(t, b.Close(t.Context()))
			require.Empty(t, b.Failed(), "its own end is no failure")
		})
	}
}
