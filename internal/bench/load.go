package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"mqtt-nats-bridge/internal/wire"
)

// load is the broker side. It accepts the connections of the lanes, grants every subscription and
// sends PUBLISH packets within a window, as a broker does. It checks that all PUBACKs arrive in
// order.
type load struct {
	listener net.Listener
	lanes    int
	attested bool
	payload  []byte
	devices  int
	window   int
	run      uint64 // distinguishes message ids from those of other runs

	mu       sync.Mutex
	ready    []*loadConn // connections whose subscriptions are granted
	changed  chan struct{}
	failure  error
	stopping bool
}

func newLoad(s Scenario, size int) (*load, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open load: %w", err)
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = "0123456789abcdef"[i%16]
	}
	l := &load{
		listener: listener, lanes: s.Lanes, attested: s.Attested, payload: payload,
		devices: s.Devices, window: s.Window, changed: make(chan struct{}, 1),
		run: uint64(time.Now().UnixNano()),
	}
	go l.accept()
	return l, nil
}

func (l *load) address() string { return l.listener.Addr().String() }

func (l *load) close() {
	l.mu.Lock()
	l.stopping = true
	conns := slices.Clone(l.ready)
	l.mu.Unlock()
	l.listener.Close()
	for _, c := range conns {
		c.Close()
	}
}

func (l *load) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		c := &loadConn{Conn: conn, load: l, in: bufio.NewReaderSize(conn, 64<<10)}
		c.room = sync.NewCond(&c.mu)
		go c.serve()
	}
}

// await waits until all lanes have subscribed.
func (l *load) await(timeout time.Duration) ([]*loadConn, error) {
	deadline := time.After(timeout)
	for {
		l.mu.Lock()
		conns, err := slices.Clone(l.ready), l.failure
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(conns) >= l.lanes {
			return conns, nil
		}
		select {
		case <-l.changed:
		case <-deadline:
			return nil, fmt.Errorf("only %d of %d lanes have subscribed after %s", len(conns), l.lanes, timeout)
		}
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil && !l.stopping {
		l.failure = err
	}
}

func (l *load) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// loadConn is one lane's connection.
type loadConn struct {
	net.Conn
	load *load
	in   *bufio.Reader

	mu      sync.Mutex
	room    *sync.Cond
	sentAt  []time.Time // of the packets in flight, oldest first
	ids     []uint16
	acked   int
	dead    bool
	latency []time.Duration // nil: not recorded
}

func (c *loadConn) serve() {
	err := c.packets()
	c.mu.Lock()
	c.dead = true
	c.room.Broadcast()
	c.mu.Unlock()
	c.Close()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.load.fail(fmt.Errorf("load: %w", err))
	}
}

func (c *loadConn) packets() error {
	for {
		if some, err := c.pubacks(); err != nil {
			return err
		} else if some {
			continue
		}
		first, body, err := wire.Read(c.in)
		if err != nil {
			return err
		}
		switch first >> 4 {
		case 1: // CONNECT
			_, err = c.Write([]byte{0x20, 2, 0, 0})
		case 8: // SUBSCRIBE
			_, err = c.Write(wire.Suback(body))
			c.load.mu.Lock()
			c.load.ready = append(c.load.ready, c)
			c.load.mu.Unlock()
			select {
			case c.load.changed <- struct{}{}:
			default:
			}
		case 12: // PINGREQ
			_, err = c.Write([]byte{0xd0, 0})
		case 14: // DISCONNECT
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// pubacks reads all buffered PUBACKs under one lock: the load runs on the same machine and must
// cost as little CPU time as possible. It reports whether there were any.
func (c *loadConn) pubacks() (some bool, err error) {
	if head, err := c.in.Peek(1); err != nil || head[0] != wire.Puback {
		return false, nil // another packet, or the connection has ended
	}
	if _, err := c.in.Peek(4); err != nil {
		return false, err
	}
	b, _ := c.in.Peek(c.in.Buffered())
	n := 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(b)-n >= 4 && b[n] == wire.Puback && b[n+1] == 2; n += 4 {
		if err := c.puback(binary.BigEndian.Uint16(b[n+2:])); err != nil {
			return false, err
		}
	}
	if n == 0 {
		return false, errors.New("malformed PUBACK")
	}
	if c.inFlight() <= c.load.window*3/4 {
		c.room.Signal()
	}
	_, err = c.in.Discard(n)
	return true, err
}

// puback compares a PUBACK with the oldest packet in flight.
func (c *loadConn) puback(id uint16) error {
	if c.acked == len(c.ids) {
		return fmt.Errorf("PUBACK %d, but nothing is in flight", id)
	}
	if want := c.ids[c.acked]; id != want {
		return fmt.Errorf("PUBACK %d out of order, the oldest in flight is %d", id, want)
	}
	if c.latency != nil {
		c.latency = append(c.latency, time.Since(c.sentAt[c.acked]))
	}
	c.acked++
	return nil
}

func (c *loadConn) inFlight() int { return len(c.ids) - c.acked }

// take waits for room in the window, adds at most n packets and returns their number.
func (c *loadConn) take(first uint16, n int, now time.Time) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.inFlight() >= c.load.window && !c.dead {
		c.room.Wait()
	}
	if c.dead {
		return 0, errors.New("load: the bridge closed the connection")
	}
	if c.acked > 4*c.load.window {
		c.ids = append(c.ids[:0], c.ids[c.acked:]...)
		if c.latency != nil {
			c.sentAt = append(c.sentAt[:0], c.sentAt[c.acked:]...)
		}
		c.acked = 0
	}
	n = min(n, c.load.window-c.inFlight())
	for i := range n {
		c.ids = append(c.ids, next(first, i))
		if c.latency != nil {
			c.sentAt = append(c.sentAt, now)
		}
	}
	return n, nil
}

// drained waits until everything is acknowledged.
func (c *loadConn) drained() error {
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		left, dead := c.inFlight(), c.dead
		c.mu.Unlock()
		switch {
		case left == 0:
			return nil
		case dead:
			return fmt.Errorf("load: connection closed with %d messages unacknowledged", left)
		case time.Now().After(deadline):
			return fmt.Errorf("load: %d messages still unacknowledged after 60 s", left)
		}
	}
}

// next returns the packet id i places after first, wrapping from 65,535 to 1.
func next(first uint16, i int) uint16 { return uint16((int(first)-1+i)%65535) + 1 }

// blast sends n messages, at most rate per second (0: as fast as the window
// allows), and waits for the last PUBACK.
func (c *loadConn) blast(lane, n, rate int) error {
	var packets [][]byte
	for d := range max(c.load.devices/c.load.lanes, 1) {
		packets = append(packets, c.load.packet(lane, d))
	}
	const batch = 64
	buf := make([]byte, 0, batch*len(packets[0])*2)
	id := uint16(1)
	start := time.Now()
	for sent := 0; sent < n; {
		want := min(batch, n-sent)
		if rate > 0 {
			due := int(time.Since(start).Seconds()*float64(rate)) - sent
			if due <= 0 {
				time.Sleep(500 * time.Microsecond)
				continue
			}
			want = min(want, due)
		}
		now := time.Now()
		got, err := c.take(id, want, now)
		if err != nil {
			return err
		}
		buf = buf[:0]
		for i := range got {
			p := packets[(sent+i)%len(packets)]
			c.load.stamp(p, next(id, i), uint64(sent+i)<<8|uint64(lane), now)
			buf = append(buf, p...)
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("load: write: %w", err)
		}
		sent += got
		id = next(id, got)
	}
	return c.drained()
}

const (
	idPlace = "00000000000000000000000000000000" // 32 hex digits
	msPlace = "0000000000000"
)

// packet returns a QoS 1 PUBLISH of one device, with placeholders for packet id, broker id and
// time.
func (l *load) packet(lane, device int) []byte {
	tenant := fmt.Sprintf("t%02d", device%16)
	name := fmt.Sprintf("l%02d-%07d", lane, device)
	topic := "tenant/" + tenant + "/device/" + name + "/telemetry"
	if l.attested {
		cn := hex.EncodeToString([]byte(tenant + "/" + name))
		topic = "bridge/v1/" + partition(lane) + "/" + idPlace + "/" + msPlace + "/" + cn + "/" + topic
	}
	return wire.AppendPublish(nil, wire.QoS1, topic, 1, l.payload)
}

func partition(lane int) string { return string("0123456789abcdef"[lane%16]) }

// stamp fills in the placeholders of a packet.
func (l *load) stamp(p []byte, packetID uint16, serial uint64, now time.Time) {
	binary.BigEndian.PutUint16(p[len(p)-len(l.payload)-2:], packetID)
	if !l.attested {
		return
	}
	i := 1
	for p[i] >= 0x80 {
		i++
	}
	i += 1 + 2 + len("bridge/v1/0/")
	const digits = "0123456789ABCDEF"
	for k, v := 31, serial; k >= 16; k-- {
		p[i+k] = digits[v&15]
		v >>= 4
	}
	// The upper half identifies the run, because the stream still has the ids of the previous run
	// in its duplicate window.
	for k, v := 15, l.run; k >= 0; k-- {
		p[i+k] = digits[v&15]
		v >>= 4
	}
	i += 33
	for k, v := 12, now.UnixMilli(); k >= 0; k-- {
		p[i+k] = byte('0' + v%10)
		v /= 10
	}
}
