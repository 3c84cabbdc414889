package proof

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// LoadOptions configures a load. Addr, Devices and Total are required.
type LoadOptions struct {
	Addr string // of the broker, host:port
	// Devices is the number of devices, which publish in turn: message n is number n/Devices of
	// device n%Devices.
	Devices int
	Total   int
	Rate    int // messages per second; 0: as fast as the broker accepts them
	Size    int // payload in bytes; 0: 256
	// Identical gives all messages the same payload.
	Identical bool
	// Topic is the part of a device's topic after its name; empty: telemetry.
	Topic string
	// Reconnect makes the publisher reconnect when its connection ends, and resend unacknowledged
	// messages with DUP, as the MQTT standard requires.
	Reconnect bool
	// Twice sends every message twice, the second time with DUP, as devices do that do not receive
	// their PUBACKs. To the broker these are two publishes (§4.3.2), and each must be stored once.
	Twice bool
	// JSON creates payloads that ingest accepts as telemetry or shadows: an object with the
	// message's number.
	JSON bool
	// Attested publishes under attested topics, as the broker's rule creates them from the topics
	// of devices.
	Attested bool
}

// Window is the maximum number of unacknowledged messages. It is below 65,535, so that no packet id
// is used twice at the same time.
const Window = 1000

// Load publishes over one raw MQTT 3.1.1 connection at QoS 1 and records the PUBACKs. All devices
// share the connection, so the broker receives the messages in the order of every device.
type Load struct {
	LoadOptions
	done chan struct{} // closed when all messages are acknowledged or the load has failed

	mu      sync.Mutex
	changed *sync.Cond
	conn    net.Conn
	run     string // prefix of the ids of attested messages
	limit   int    // number of messages that may be sent so far
	sent    int    // number of messages sent at least once
	acks    int    // number of messages acknowledged at least once
	// sends and pubacks count the publishes and PUBACKs of each message.
	sends, pubacks []uint8
	inFlight       [1 << 16]int // message plus 1 by packet id; 0: none
	packets        int          // packet ids used
	unacked        int          // packets in flight
	err            error        // reason of a premature end
}

// StartLoad connects and publishes the messages that Release allows. The load stops with the test.
func StartLoad(t testing.TB, o LoadOptions) *Load {
	t.Helper()
	if o.Size == 0 {
		o.Size = 256
	}
	if o.Topic == "" {
		o.Topic = "telemetry"
	}
	l := NewLoad(o)
	conn, err := DialMQTT(l.Addr, l.clientID(), "")
	if err != nil {
		t.Fatal(err)
	}
	l.conn = conn
	go func() {
		defer close(l.done)
		l.serve()
	}()
	t.Cleanup(func() {
		l.end(net.ErrClosed)
		<-l.done
	})
	return l
}

// clientID contains the topic, so that two loads with different topics can publish at the same
// time.
func (l *Load) clientID() string { return "load-" + l.Topic }

// NewLoad returns a load whose messages the test publishes itself, see [Load.Next].
func NewLoad(o LoadOptions) *Load {
	l := &Load{LoadOptions: o, sends: make([]uint8, o.Total), pubacks: make([]uint8, o.Total), done: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	l.run = fmt.Sprintf("%016X", time.Now().UnixNano())
	return l
}

// serve publishes until all messages are acknowledged. It reconnects if Reconnect is set.
func (l *Load) serve() {
	for {
		var both sync.WaitGroup
		var lost error
		conn := l.conn
		fail := func(err error) {
			if err == nil {
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if lost == nil {
				lost = err
			}
			conn.Close()
			l.changed.Broadcast()
		}
		gone := func() bool { return lost != nil } // under mu
		both.Go(func() { fail(l.publish(conn, gone)) })
		both.Go(func() { fail(l.acknowledgements(conn)) })
		both.Wait()
		if lost == nil {
			conn.Close()
			return
		}
		if !l.Reconnect {
			l.end(lost)
		}
		if !l.redial() {
			return
		}
	}
}

// redial reconnects with nothing in flight; unacknowledged messages are sent again. It returns
// false if the load has ended.
func (l *Load) redial() bool {
	for {
		l.mu.Lock()
		ended := l.err != nil
		l.mu.Unlock()
		if ended {
			return false
		}
		conn, err := DialMQTT(l.Addr, l.clientID(), "")
		if err != nil {
			time.Sleep(50 * time.Millisecond) // between attempts
			continue
		}
		l.mu.Lock()
		l.conn, l.inFlight, l.unacked = conn, [1 << 16]int{}, 0
		if l.err != nil {
			conn.Close()
		}
		l.mu.Unlock()
		return true
	}
}

// end records the first error and closes the connection.
func (l *Load) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.conn.Close()
	l.changed.Broadcast()
}

// Release allows the load to publish up to message n.
func (l *Load) Release(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = max(l.limit, min(n, l.Total))
	l.changed.Broadcast()
}

// acknowledgements reads PUBACKs until all messages are acknowledged.
func (l *Load) acknowledgements(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		id, err := wire.ReadPuback(in)
		if err != nil {
			return err
		}
		if all, err := l.puback(id); all || err != nil {
			return err
		}
	}
}

func (l *Load) puback(id uint16) (all bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	message := l.inFlight[id] - 1
	if message < 0 {
		return false, fmt.Errorf("read PUBACK: no message in flight with packet id %d", id)
	}
	l.inFlight[id] = 0
	l.unacked--
	if l.pubacks[message] == 0 {
		l.acks++
	}
	l.pubacks[message]++
	l.changed.Broadcast()
	return l.acks == l.Total && l.unacked == 0, nil
}

// Await waits until n messages are acknowledged. It returns false if the load ended before.
func (l *Load) Await(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.acks < n && l.err == nil {
		l.changed.Wait()
	}
	return l.acks >= n
}

// AwaitEnd waits until all messages are published and acknowledged.
func (l *Load) AwaitEnd(t testing.TB) {
	t.Helper()
	l.Release(l.Total)
	select {
	case <-l.done:
	case <-time.After(5 * testrun.Timeout):
		t.Fatal("the load did not end in time")
	}
	if l.err != nil {
		t.Fatalf("the broker ended the load: %v", l.err)
	}
}

// DialMQTT connects with a clean session, and with a user name unless it is empty.
func DialMQTT(addr, clientID, username string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, testrun.Timeout)
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", clientID, err)
	}
	if _, err = (&wire.Connect{ClientID: clientID, Username: username}).Handshake(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect as %s: %w", clientID, err)
	}
	return conn, nil
}

// Next returns the next message and records it as sent. The test publishes it itself.
func (l *Load) Next() (topic string, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.sent
	l.sends[n]++
	l.sent++
	return l.topic(n, 0), l.payload(n)
}

// NoteAck records the PUBACK of the message that Next returned last.
func (l *Load) NoteAck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pubacks[l.sent-1]++
	l.acks++
}

// Sent returns how many messages were sent, each counted once.
func (l *Load) Sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// Acked returns how many messages were acknowledged, each counted once.
func (l *Load) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// HasAck reports whether a message was acknowledged.
func (l *Load) HasAck(message int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pubacks[message] > 0
}
