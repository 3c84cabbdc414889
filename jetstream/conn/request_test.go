package conn_test

import (
	"errors"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

// Without a connection, nats.go's error is about its buffer.
func TestDisconnectedRequestError(t *testing.T) {
	t.Parallel()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	nc, err := conn.Connect(conn.Options{URL: s.URL()})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.AccountInfo(natstest.Context(t))
	require.NoError(t, err)
	s.Close()
	require.Eventually(t, func() bool { return !nc.IsConnected() }, testrun.Timeout, time.Millisecond)
	for range 2 { // reconnecting, then closed
		_, err = js.Stream(natstest.Context(t), "S")
		require.Equal(t, conn.ErrDisconnected, conn.Disconnected(err))
		require.Equal(t, conn.ErrDisconnected, conn.Explain(err, "$JS.API.STREAM.INFO.S"))
		nc.Close()
	}
	other := errors.New("other")
	require.Equal(t, other, conn.Disconnected(other))
}
