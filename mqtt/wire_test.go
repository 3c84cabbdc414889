package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/wire"
)

var (
	connackNew  = []byte{0x20, 2, 0, 0}
	connackKept = []byte{0x20, 2, 1, 0}
	pong        = []byte{0xd0, 0}
)

// publish is a PUBLISH packet; id 0 makes it QoS 0.
func publish(topic string, id uint16, payload []byte) []byte {
	flags := byte(0)
	if id != 0 {
		flags = wire.QoS1
	}
	return wire.AppendPublish(nil, flags, topic, id, payload)
}

// packet puts a fixed header before body. MQTT's remaining length is coded as Go
// codes an unsigned varint.
func packet(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func suback(id uint16, codes ...byte) []byte {
	return packet(typeSuback<<4, append(binary.BigEndian.AppendUint16(nil, id), codes...))
}

func pubacks(ids ...uint16) (all []byte) {
	for _, id := range ids {
		all = wire.AppendPuback(all, id)
	}
	return all
}

// pattern is a payload whose bytes tell their place.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8)
	}
	return p
}

// memConn is a connection whose peer has sent all it will ever send. Each Read
// returns one of the chunks, then io.EOF; each Write is kept.
type memConn struct {
	net.Conn // nil: what is not overridden is not called

	mu       sync.Mutex
	chunks   [][]byte
	written  [][]byte
	writeErr error
	closed   int
	onRead   func() // called before a read takes its bytes
}

func (c *memConn) Read(p []byte) (int, error) {
	if c.onRead != nil {
		c.onRead()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed > 0 {
		return 0, net.ErrClosed
	}
	for len(c.chunks) > 0 && len(c.chunks[0]) == 0 {
		c.chunks = c.chunks[1:]
	}
	if len(c.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.chunks[0])
	c.chunks[0] = c.chunks[0][n:]
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed > 0 {
		return 0, net.ErrClosed
	}
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	c.written = append(c.written, bytes.Clone(p))
	return len(p), nil
}

func (c *memConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// sent is everything written so far, in one piece.
func (c *memConn) sent() []byte { return bytes.Join(c.writes(), nil) }

func (c *memConn) writes() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

// pipe is a connection in memory, without a buffer, that works in virtual time
// and reports as a socket does which end was closed.
func pipe() (near, far net.Conn) {
	a, b := net.Pipe()
	return &pipeConn{Conn: a}, b
}

type pipeConn struct {
	net.Conn
	closed atomic.Bool
	broken atomic.Bool // writes meet a peer that is gone
}

func (c *pipeConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.asSocket("read", err)
}

func (c *pipeConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, &net.OpError{Op: "write", Net: "pipe", Err: syscall.EPIPE}
	}
	n, err := c.Conn.Write(p)
	return n, c.asSocket("write", err)
}

func (c *pipeConn) asSocket(op string, err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, io.ErrClosedPipe) && c.closed.Load():
		err = net.ErrClosed
	case errors.Is(err, io.ErrClosedPipe):
		err = syscall.EPIPE
	}
	return &net.OpError{Op: op, Net: "pipe", Err: err}
}

// chunked cuts b into pieces of the given sizes, again and again.
func chunked(b []byte, sizes ...int) (chunks [][]byte) {
	for i := 0; len(b) > 0; i++ {
		n := min(max(sizes[i%len(sizes)], 1), len(b))
		chunks = append(chunks, b[:n:n])
		b = b[n:]
	}
	return chunks
}

// event is a call of the receiver.
type event struct {
	kind    string // connected, deliver, disconnected
	present bool
	bridge.Delivery
	conn bridge.Conn
}

// recorder is a receiver that copies what it is given.
type recorder struct {
	ack bool // each delivery immediately

	mu     sync.Mutex
	events []event
}

func (r *recorder) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) Connected(c bridge.Conn, present bool) {
	r.add(event{kind: "connected", present: present, conn: c})
}

func (r *recorder) Deliver(c bridge.Conn, d *bridge.Delivery) {
	e := event{kind: "deliver", Delivery: *d, conn: c}
	e.Topic, e.Payload = bytes.Clone(d.Topic), bytes.Clone(d.Payload)
	r.add(e)
	if r.ack && d.QoS > 0 {
		c.Ack(d.PacketID)
	}
}

func (r *recorder) Disconnected(c bridge.Conn) { r.add(event{kind: "disconnected", conn: c}) }

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event(nil), r.events...)
}

func (r *recorder) deliveries() (all []event) {
	for _, e := range r.all() {
		if e.kind == "deliver" {
			all = append(all, e)
		}
	}
	return all
}

// readAll reads from the tap as paho does, until it ends, and returns what paho
// got.
func readAll(t *tap, sizes ...int) ([]byte, error) {
	if len(sizes) == 0 {
		sizes = []int{512}
	}
	var got []byte
	for i := 0; ; i++ {
		p := make([]byte, max(sizes[i%len(sizes)], 1))
		n, err := t.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			return got, err
		}
	}
}

// requireLife checks what every life of a connection has in common: Connected
// first, Disconnected last, each once, and all from the same tap.
func requireLife(t testing.TB, tp *tap, events []event) {
	t.Helper()
	for i, e := range events {
		require.Same(t, tp, e.conn)
		require.Equal(t, i == 0, e.kind == "connected", "event %d of %d: %s", i, len(events), e.kind)
		require.Equal(t, i == len(events)-1, e.kind == "disconnected", "event %d of %d: %s", i, len(events), e.kind)
	}
	select {
	case <-tp.ended:
	default:
		require.Fail(t, "the tap has not ended")
	}
}
