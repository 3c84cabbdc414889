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

	"mqtt-nats-bridge/internal/wire"

	"github.com/stretchr/testify/require"
)

// ScriptedBroker is the broker end of one kept session, for what no broker that
// can be installed here does: it delivers the messages of a load with a window,
// redelivers on a new connection what has no PUBACK, and misbehaves on the way.
type ScriptedBroker struct {
	*Load
	listener net.Listener
	// Between is called while it runs, with the connection at a packet's end; an
	// error ends the connection.
	Between func(at int, conn net.Conn) error
	// Again redelivers on the same connection, every so often, what has no
	// PUBACK: retry_interval of an EMQX before 5.8. 0: never.
	Again time.Duration

	wg     sync.WaitGroup
	ended  error // why the latest connection ended
	counts ScriptedCounts
}

// ScriptedCounts are what a scripted broker has seen.
type ScriptedCounts struct {
	Connections, Redelivered int
	Strays                   int // PUBACKs for which nothing waited
}

// Counts returns what the broker has seen until now.
func (b *ScriptedBroker) Counts() ScriptedCounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// NewScriptedBroker serves until the test ends. It begins to deliver with the
// first subscription, and to a session that it kept right after CONNACK.
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
				return // the bridge asks what speaks here
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

// isSession reports whether a connection begins with a CONNECT that names a client.
func isSession(in *bufio.Reader) bool {
	start, err := in.Peek(14) // the client id's length ends there
	return err == nil && start[0] == 0x10 && binary.BigEndian.Uint16(start[12:]) > 0
}

// session is the life of one connection.
func (b *ScriptedBroker) session(conn net.Conn, in *bufio.Reader, present bool) error {
	out := &packetWriter{conn: conn}
	ended := make(chan struct{}) // the connection has
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
			if present { // the session has its subscription
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

// packetWriter keeps packets whole that come from several goroutines.
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

// unacknowledged are the messages without a PUBACK, in the order of their first
// delivery.
func (b *ScriptedBroker) unacknowledged() (all []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.sent {
		if b.pubacks[i] == 0 {
			all = append(all, i)
		}
	}
	return all
}

func (b *ScriptedBroker) packet(message int, dup bool) []byte {
	return b.appendPublish(nil, outgoing{message: message, packetID: PacketID(message), dup: dup})
}

// deliver redelivers what is due and goes on with new messages, at the load's
// pace.
func (b *ScriptedBroker) deliver(out *packetWriter, present bool) error {
	if present {
		for _, message := range b.unacknowledged() {
			if err := out.write(b.packet(message, true)); err != nil {
				return err
			}
			b.mu.Lock()
			b.counts.Redelivered++
			b.mu.Unlock()
		}
	}
	b.mu.Lock()
	from := b.sent
	b.mu.Unlock()
	due := pace{b.Rate, from, time.Now()}
	for message := from; message < b.Total; message++ {
		time.Sleep(due.until(message)) // the pace of the load
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

// first is a message's first delivery. Until it is on the wire nothing else is,
// not its own redelivery.
func (b *ScriptedBroker) first(message int, out *packetWriter) error {
	out.mu.Lock()
	defer out.mu.Unlock()
	b.mu.Lock()
	if b.conn != out.conn { // the next connection has gone on
		b.mu.Unlock()
		return net.ErrClosed
	}
	b.sent, b.sends[message] = message+1, 1
	b.mu.Unlock()
	if _, err := out.conn.Write(b.packet(message, false)); err != nil {
		return err
	}
	if b.Between != nil {
		return b.Between(message, out.conn)
	}
	return nil
}

// repeat redelivers on the same connection what has no PUBACK.
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

// resend redelivers in one write what has no PUBACK. No PUBACK is handled in between, as in a
// broker that serves a connection by one process (EMQX); one may be on its way, and the two
// cross. In one write, or each PUBACK would wait its turn behind another packet, and a busy
// machine would make that the speed of the broker.
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
		return fmt.Sprintf("%d of %d acknowledged, connection %d, the one before ended with %v", b.acks, b.sent, b.counts.Connections, b.ended)
	})
}
