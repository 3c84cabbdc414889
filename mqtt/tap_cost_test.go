package mqtt

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// loopConn repeats the same bytes forever, as many as are asked for.
type loopConn struct {
	net.Conn
	wire []byte
	pos  int
}

func (c *loopConn) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], c.wire[c.pos:])
		n += k
		c.pos = (c.pos + k) % len(c.wire)
	}
	return n, nil
}

func (c *loopConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *loopConn) SetWriteDeadline(time.Time) error { return nil }
func (c *loopConn) Close() error                     { return nil }

// counter acknowledges and keeps nothing.
type counter struct{ n int }

func (*counter) Connected(bridge.Conn, bool) {}
func (c *counter) Deliver(conn bridge.Conn, d *bridge.Delivery) {
	c.n++
	conn.Ack(d.PacketID)
}
func (*counter) Disconnected(bridge.Conn) {}

// newLoop is a connected tap that delivers many messages for each Read.
func newLoop(t testing.TB, messages int) (*tap, *counter) {
	t.Helper()
	var wire []byte
	for id := range messages {
		wire = append(wire, publish("tenant/acme/device/dev-1/telemetry", uint16(id+1), pattern(256))...)
	}
	r := &counter{}
	tp := newTap(&loopConn{wire: append(wire, pong...)}, &Options{Receiver: r})
	tp.buf = tp.buf[:len(connackNew)]
	tp.w = copy(tp.buf, connackNew)
	_, err := io.ReadFull(tp, make([]byte, len(connackNew)))
	require.NoError(t, err)
	tp.buf = tp.buf[:cap(tp.buf)]
	return tp, r
}

// Not parallel: other tests' allocations would count.
func TestTapAllocations(t *testing.T) {
	tp, r := newLoop(t, 1000)
	p := make([]byte, len(pong))
	allocs := testing.AllocsPerRun(100, func() {
		if n, err := tp.Read(p); err != nil || n != len(p) || !bytes.Equal(p, pong) {
			panic(err)
		}
	})
	require.Equal(t, 101*1000, r.n)
	require.Zero(t, allocs, "a thousand messages with their PUBACKs")
}

func BenchmarkTap(b *testing.B) {
	tp, r := newLoop(b, 1000)
	p := make([]byte, len(pong))
	b.SetBytes(int64(len(publish("tenant/acme/device/dev-1/telemetry", 1, pattern(256)))))
	b.ReportAllocs()
	b.ResetTimer()
	for r.n < b.N {
		if _, err := tp.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}
