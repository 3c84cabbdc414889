package proof

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/wire"
)

// ScriptedBroker is the broker side of one persistent session, for behaviour that no available
// broker has. It delivers the messages of a load within a window, redelivers unacknowledged
// messages on a new connection, and misbehaves as scripted.
type ScriptedBroker struct {
	*Load
	listener net.Listener
	// Between is called between two packets with the connection. An error ends the connection.
	Between func(at int, conn net.Conn) error
	// Again is the interval at which unacknowledged messages are redelivered on the same
	// connection, like retry_interval of EMQX before 5.8. 0: never.
	Again time.Duration

	wg     sync.WaitGroup
	ended  error // reason why the latest connection ended
	counts ScriptedCounts
}

// ScriptedCounts contains the counts of a scripted broker.
type ScriptedCounts struct {
	Connections, Redelivered int
	Strays                   int // PUBACKs without a message in flight
}

// Counts returns the counts so far.
func (b *ScriptedBroker) Counts() ScriptedCounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// NewScriptedBroker starts a broker that stops with the test. It begins to deliver after the first
// subscription; if the session is resumed, right after CONNACK.
func NewScriptedBroker(t testing.TB, o LoadOptions, script func(*ScriptedBroker)) *ScriptedBroker {
	t.Helper()
	o.Size, o.Topic = 64, "telemetry"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &ScriptedBroker{Load: NewLoad(o), listener: l}
	script(b)
	b.wg.Go(b.accept)
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		b.err = net.ErrClosed
		if b.conn != nil {
			b.conn.Close()
		}
		b.changed.Broadcast()
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

// Address returns the host:port of its listener.
func (b *ScriptedBroker) Address() string { return b.listener.Addr().String() }

func (b *ScriptedBroker) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			if !isSession(in) {
				return // a probe of the bridge, not a session
			}
			b.mu.Lock()
			if b.conn != nil {
				b.conn.Close() // [MQTT-3.1.4-2]
			}
			b.conn = conn
			b.counts.Connections++
			present := b.counts.Connections > 1
			b.mu.Unlock()
			err := b.session(conn, in, present)
			conn.Close()
			b.mu.Lock()
			b.ended = err
			b.changed.Broadcast()
			b.mu.Unlock()
		})
	}
}

// isSession reports whether a connection begins with a CONNECT with a client id.
func isSession(in *bufio.Reader) bool {
	start, err := in.Peek(14) // up to the length of the client id
	return err == nil && start[0] == 0x10 && binary.BigEndian.Uint16(start[12:]) > 0
}

// session serves one connection.
func (b *ScriptedBroker) session(conn net.Conn, in *bufio.Reader, present bool) error {
	out := &packetWriter{conn: conn}
	ended := make(chan struct{}) // closed when the connection has ended
	var deliver sync.WaitGroup
	defer deliver.Wait()
	defer close(ended)
	defer conn.Close()
	begun := false
	begin := func() {
		begun = true
		deliver.Go(func() {
			if b.deliver(out, present) != nil {
				conn.Close()
			}
		})
		if b.Again > 0 {
			deliver.Go(func() { b.repeat(out, ended) })
		}
	}
	for {
		first, body, err := wire.Read(in)
		if err != nil {
			return err
		}
		switch first >> 4 {
		case 1: // CONNECT
			flag := byte(0)
			if present {
				flag = 1
			}
			err = out.write([]byte{0x20, 2, flag, 0})
			if present { // the session has its subscription already
				begin()
			}
		case 8: // SUBSCRIBE: everything is granted at QoS 1
			err = out.write(wire.Suback(body))
			if !begun {
				begin()
			}
		case 4: // PUBACK
			b.acknowledged(binary.BigEndian.Uint16(body))
		case 12: // PINGREQ
			err = out.write([]byte{0xd0, 0})
		case 14: // DISCONNECT
			return io.EOF
		default:
			err = fmt.Errorf("packet % x", first)
		}
		if err != nil {
			return err
		}
	}
}

// packetWriter serializes the packets of several goroutines.
type packetWriter struct {
	mu   sync.Mutex
	conn net.Conn
}

func (w *packetWriter) write(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.conn.Write(p)
	return err
}

// deliver redelivers unacknowledged messages and continues with new ones, at the load's rate.
func (b *ScriptedBroker) deliver(out *packetWriter, present bool) error {
	if present {
		if err := b.resend(out); err != nil {
			return err
		}
	}
	b.mu.Lock()
	from := b.sent
	b.mu.Unlock()
	due := pace{b.Rate, from, time.Now()}
	for message := from; message < b.Total; message++ {
		time.Sleep(due.until(message)) // paces the load
		b.mu.Lock()
		for b.err == nil && b.conn == out.conn && b.sent-b.acks >= Window {
			b.changed.Wait()
		}
		if b.err != nil || b.conn != out.conn {
			b.mu.Unlock()
			return net.ErrClosed
		}
		b.mu.Unlock()
		if err := b.first(message, out); err != nil {
			return err
		}
	}
	return nil
}

// first delivers a message for the first time. No other packet is written before it, not even its
// own redelivery.
func (b *ScriptedBroker) first(message int, out *packetWriter) error {
	out.mu.Lock()
	defer out.mu.Unlock()
	b.mu.Lock()
	if b.conn != out.conn { // the next connection has taken over
		b.mu.Unlock()
		return net.ErrClosed
	}
	b.sent, b.sends[message] = message+1, 1
	b.mu.Unlock()
	if _, err := out.conn.Write(b.appendPublish(nil, outgoing{message: message, packetID: PacketID(message)})); err != nil {
		return err
	}
	if b.Between != nil {
		return b.Between(message, out.conn)
	}
	return nil
}

// repeat redelivers unacknowledged messages on the same connection.
func (b *ScriptedBroker) repeat(out *packetWriter, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-time.After(b.Again):
		}
		if b.resend(out) != nil {
			return
		}
	}
}

// resend redelivers unacknowledged messages in order, in one write. It handles no PUBACK in between, like a
// broker that serves a connection with one process (EMQX), so a PUBACK in transit crosses the
// redelivery. With one write per packet, each PUBACK would wait behind another packet, which would
// slow down the broker on a busy machine.
func (b *ScriptedBroker) resend(out *packetWriter) error {
	out.mu.Lock()
	defer out.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	var packets []byte
	for message := range b.sent {
		if b.pubacks[message] == 0 {
			packets = b.appendPublish(packets, outgoing{message: message, packetID: PacketID(message), dup: true})
			b.counts.Redelivered++
		}
	}
	_, err := out.conn.Write(packets)
	return err
}

func (b *ScriptedBroker) acknowledged(id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	message := int(id) - 1
	if message >= b.sent || b.pubacks[message] > 0 {
		b.counts.Strays++
		return
	}
	b.pubacks[message] = 1
	b.acks++
	b.changed.Broadcast()
}

// AwaitAll waits until every message has its PUBACK.
func (b *ScriptedBroker) AwaitAll(t testing.TB) {
	t.Helper()
	Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.acks == b.Total
	}, func() any {
		b.mu.Lock()
		defer b.mu.Unlock()
		return fmt.Sprintf("%d of %d acknowledged, connection %d, the previous one ended with %v", b.acks, b.sent, b.counts.Connections, b.ended)
	})
}
