package broker_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// clock advances only by the pauses that callers request.
type clock struct {
	mu       sync.Mutex
	at, from time.Time
}

func newClock() *clock {
	at := time.UnixMilli(1795442951630)
	return &clock{at: at, from: at}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pause(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (c *clock) paused() time.Duration { return c.now().Sub(c.from) }

// raw is a device connection below paho, which would not write in one piece.
func raw(t *testing.T, b *broker.Broker, cn string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "tcp://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testrun.Timeout)))
	present, err := (&wire.Connect{ClientID: "d", Username: cn, KeepAlive: 30 * time.Second}).Handshake(conn)
	require.NoError(t, err)
	require.False(t, present)
	return conn
}

func readAll(t *testing.T, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	require.NoError(t, err)
	return b
}
