package proof

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// loadOptions describe a load. Addr, Devices and Total are required.
type loadOptions struct {
	Addr string // of the broker, host:port
	// Devices take turns: message n is number n/Devices of device n%Devices.
	Devices int
	Total   int
	Rate    int // messages a second; 0: as fast as the broker takes them
	Size    int // bytes of payload; 0: 256
	// Identical gives all messages the same payload.
	Identical bool
	// Topic is the part of a device's topic after its name; empty: telemetry.
	Topic string
	// JSON makes payloads that ingest takes, telemetry or shadows: an object
	// with the message's number.
	JSON bool
}

// window is how many messages wait for their PUBACK at most. Below 65,535, so
// that no packet id is used twice at a time.
const window = 1000

// load publishes over one raw MQTT 3.1.1 connection at QoS 1 and notes which
// message got its PUBACK. All devices share the connection, so that what the
// broker gets is in the order of every device.
type load struct {
	loadOptions
	conn net.Conn
	done chan struct{} // closed once everything is acknowledged, or nothing more will be

	mu      sync.Mutex
	changed *sync.Cond
	limit   int // messages that may be sent so far
	sent    int
	acked   []bool // by message
	acks    int
	flying  [1 << 16]int // by packet id: message+1
	err     error        // why it ended early
}

// startLoad connects and publishes as far as release allows. It ends with the
// test.
func startLoad(t testing.TB, o loadOptions) *load {
	t.Helper()
	if o.Size == 0 {
		o.Size = 256
	}
	if o.Topic == "" {
		o.Topic = "telemetry"
	}
	l := &load{loadOptions: o, acked: make([]bool, o.Total), done: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	conn, err := dialMQTT(o.Addr, "load-"+o.Topic, "")
	if err != nil {
		t.Fatal(err)
	}
	l.conn = conn
	var both sync.WaitGroup
	both.Go(func() { l.end(l.publish()) })
	both.Go(func() { l.end(l.acknowledgements()) })
	go func() {
		both.Wait()
		close(l.done)
	}()
	t.Cleanup(func() {
		l.end(net.ErrClosed)
		<-l.done
	})
	return l
}

// end notes the first reason and closes the connection.
func (l *load) end(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.conn.Close()
	l.changed.Broadcast()
}

// release lets the load publish up to message n.
func (l *load) release(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = max(l.limit, min(n, l.Total))
	l.changed.Broadcast()
}

// publish writes all messages, in batches as they fall due.
func (l *load) publish() error {
	const batch = 64
	var buf []byte
	var due pace
	for next := 0; next < l.Total; {
		n, held, err := l.take(next, batch)
		if err != nil {
			return err
		}
		if held {
			due = pace{l.Rate, next, time.Now()}
		}
		buf = buf[:0]
		for i := range n {
			if pause := due.until(next + i); pause > 0 {
				if _, err := l.conn.Write(buf); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
				buf = buf[:0]
				time.Sleep(pause) // the pace of the load: nobody waits for it
			}
			buf = l.appendPublish(buf, next+i)
		}
		if _, err := l.conn.Write(buf); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		next += n
	}
	return nil
}

// pace says when a message is due: rate a second since it began with a message.
type pace struct {
	rate  int // 0: at once
	from  int
	began time.Time
}

func (p pace) until(message int) time.Duration {
	if p.rate == 0 {
		return 0
	}
	due := p.began.Add(time.Duration(message-p.from) * time.Second / time.Duration(p.rate))
	if pause := time.Until(due); pause > time.Millisecond {
		return pause
	}
	return 0
}

// take waits until the next message may be sent, enters at most n of them and
// tells whether the load had been held.
func (l *load) take(next, n int) (_ int, held bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && (next == l.limit || l.sent-l.acks >= window) {
		held = held || next == l.limit
		l.changed.Wait()
	}
	if l.err != nil {
		return 0, false, l.err
	}
	n = min(n, window-(l.sent-l.acks), l.limit-next)
	for i := next; i < next+n; i++ {
		l.flying[packetID(i)] = i + 1
	}
	l.sent = next + n
	return n, held || next == 0, nil
}

func packetID(message int) uint16 { return uint16(message%65535 + 1) }

// device is the name of device i; they spread over ten tenants.
func device(i int) (tenant, name string) { return fmt.Sprintf("t%d", i%10), fmt.Sprintf("d%05d", i) }

func (l *load) appendPublish(b []byte, message int) []byte {
	tenant, name := device(message % l.Devices)
	topic := "tenant/" + tenant + "/device/" + name + "/" + l.Topic
	return appendPublish(b, topic, packetID(message), l.payload(message))
}

// payload begins with the message's number, unless all are the same.
func (l *load) payload(message int) []byte {
	if l.JSON {
		p := fmt.Appendf(nil, `{"version":%d,"reported":{"n":%d},"pad":"`, message, message)
		return append(append(p, bytes.Repeat([]byte("x"), max(0, l.Size-len(p)-2))...), `"}`...)
	}
	p := make([]byte, max(l.Size, 8))
	for i := range p {
		p[i] = byte(i)
	}
	if l.Identical {
		message = 0
	}
	binary.BigEndian.PutUint64(p, uint64(message))
	return p
}

// acknowledgements reads PUBACKs until all have come.
func (l *load) acknowledgements() error {
	in := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		var p [4]byte
		if _, err := io.ReadFull(in, p[:]); err != nil {
			return fmt.Errorf("read PUBACK: %w", err)
		}
		if p[0] != 0x40 || p[1] != 2 {
			return fmt.Errorf("read PUBACK: the broker sent % x", p)
		}
		if all, err := l.puback(binary.BigEndian.Uint16(p[2:])); all || err != nil {
			return err
		}
	}
}

func (l *load) puback(id uint16) (all bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	message := l.flying[id] - 1
	if message < 0 {
		return false, fmt.Errorf("read PUBACK: nothing waits for one with packet id %d", id)
	}
	l.flying[id] = 0
	l.acked[message] = true
	l.acks++
	l.changed.Broadcast()
	return l.acks == l.Total, nil
}

// await waits until n messages are acknowledged. False: it ended before.
func (l *load) await(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.acks < n && l.err == nil {
		l.changed.Wait()
	}
	return l.acks >= n
}

// awaitEnd waits until everything is published and acknowledged.
func (l *load) awaitEnd(t testing.TB) {
	t.Helper()
	l.release(l.Total)
	select {
	case <-l.done:
	case <-time.After(5 * patience):
		t.Fatal("the load does not end")
	}
	if l.err != nil {
		t.Fatalf("the broker ended the load: %v", l.err)
	}
}

// dialMQTT connects with a clean session, under a user name where one is given
// (§3.1).
func dialMQTT(addr, clientID, username string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", clientID, err)
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, 0, byte(len(clientID)))
	body = append(body, clientID...)
	if username != "" {
		body[7] |= 0x80
		body = append(body, 0, byte(len(username)))
		body = append(body, username...)
	}
	var answer [4]byte
	_, err = conn.Write(append([]byte{0x10, byte(len(body))}, body...))
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	if err == nil && (answer[0] != 0x20 || answer[3] != 0) {
		err = errors.New("refused")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect as %s: %w", clientID, err)
	}
	return conn, nil
}

// appendPublish appends a PUBLISH at QoS 1, at QoS 0 where id is 0 (§3.3).
func appendPublish(b []byte, topic string, id uint16, payload []byte) []byte {
	kind, size := byte(0x30), 2+len(topic)+len(payload)
	if id != 0 {
		kind, size = 0x32, size+2
	}
	b = binary.AppendUvarint(append(b, kind), uint64(size)) // the same coding as MQTT's remaining length
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}
