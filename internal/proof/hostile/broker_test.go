package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// hostileBroker is a TCP server that acts as a broker. It attacks the first connection. The
// later ones are served correctly, once serve is closed.
type hostileBroker struct {
	addr  string
	serve chan struct{} // closed: later connections are accepted

	mu   sync.Mutex
	acks []uint16 // PUBACKs of all connections
}

// hostileConn is the broker's end of a connection.
type hostileConn struct {
	net.Conn
	broker *hostileBroker
	in     *bufio.Reader
	suback []byte // the correct answer to the last SUBSCRIBE
}

func startHostileBroker(t testing.TB, attack, good func(*hostileConn)) *hostileBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &hostileBroker{addr: l.Addr().String(), serve: make(chan struct{})}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for first := true; ; first = false {
			if !first {
				select {
				case <-b.serve:
				case <-stop:
				}
			}
			conn, err := l.Accept()
			if err != nil {
				return
			}
			play := good
			if first {
				play = attack
			}
			wait.Go(func() {
				defer conn.Close()
				over := make(chan struct{})
				defer close(over)
				wait.Go(func() {
					select {
					case <-stop:
						conn.Close()
					case <-over:
					}
				})
				play(&hostileConn{Conn: conn, broker: b, in: bufio.NewReader(conn)})
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		l.Close()
		wait.Wait()
	})
	return b
}

// read returns the bridge's next packet and records PUBACKs.
func (c *hostileConn) read() (kind byte, body []byte, err error) {
	first, err := c.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(c.in)
	if err != nil {
		return 0, nil, err
	}
	// The bridge may probe for TLS. A ClientHello begins with 0x16, and its random bytes could
	// look like a PUBACK.
	if !slices.Contains([]byte{0x10, 0x40, 0x82, 0xa2, 0xc0, 0xe0}, first) || size > 1<<20 {
		return 0, nil, errors.New("no packet of the bridge")
	}
	body = make([]byte, size)
	if _, err = io.ReadFull(c.in, body); err != nil {
		return 0, nil, err
	}
	if first>>4 == 4 {
		c.broker.mu.Lock()
		c.broker.acks = append(c.broker.acks, binary.BigEndian.Uint16(body))
		c.broker.mu.Unlock()
	}
	return first >> 4, body, nil
}

// connect reads CONNECT and sends the given answer.
func (c *hostileConn) connect(answer string) {
	if kind, _, err := c.read(); err == nil && kind == 1 {
		io.WriteString(c, answer)
	}
}

const connack = "\x20\x02\x00\x00"

// open answers CONNECT and SUBSCRIBE correctly.
func (c *hostileConn) open() {
	c.connect(connack)
	c.subscribe()
	c.Write(c.suback)
}

// subscribe reads SUBSCRIBE.
func (c *hostileConn) subscribe() {
	kind, body, err := c.read()
	if err != nil || kind != 8 {
		return
	}
	c.suback = wire.Suback(body)
}

// drain reads until the connection ends.
func (c *hostileConn) drain() {
	for {
		kind, _, err := c.read()
		if err != nil {
			return
		}
		if kind == 12 {
			io.WriteString(c, "\xd0\x00")
		}
	}
}

// acked returns the packet ids of all PUBACKs received.
func (b *hostileBroker) acked() []uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.acks)
}

// brokerAttack is the broker's behaviour on the first connection.
type brokerAttack struct {
	name string
	play func(c *hostileConn, topic string)
	// says are words of the problem that the bridge then reports; none: the bridge tolerates
	// the attack.
	says []string
	// want lists the stored messages as "subject payload", without the tenant.
	want []string
	slow bool // waits for a timeout of several seconds
	with proof.Settings
}

func brokerAttacks() []brokerAttack {
	publish := func(flags byte, id uint16, payload string) func(*hostileConn, string) {
		return func(c *hostileConn, topic string) {
			c.open()
			c.Write(rawPublish(flags, topic, id, payload))
			c.drain()
		}
	}
	// after sends bytes after the subscription.
	after := func(wire string) func(*hostileConn, string) {
		return func(c *hostileConn, _ string) {
			c.open()
			io.WriteString(c, wire)
			c.drain()
		}
	}
	instead := func(wire string) func(*hostileConn, string) {
		return func(c *hostileConn, _ string) { c.connect(wire); c.drain() }
	}
	suback := func(spoil func([]byte) []byte) func(*hostileConn, string) {
		return func(c *hostileConn, _ string) {
			c.connect(connack)
			c.subscribe()
			c.Write(spoil(c.suback))
			c.drain()
		}
	}
	const malformed, protocol = "malformed MQTT packet", "MQTT protocol violation"
	attacks := []brokerAttack{
		{name: "another protocol", play: instead("HTTP/1.1 400 Bad Request\r\n\r\n"), says: []string{"does not speak MQTT: it is an HTTP server"}},
		{name: "closes instead of CONNACK", play: func(c *hostileConn, _ string) { c.read() }, says: []string{"closes the connection instead of answering CONNECT"}},
		{name: "half a CONNACK", play: func(c *hostileConn, _ string) { c.connect("\x20\x02\x00") }, says: []string{"closes the connection instead of answering CONNECT"}},
		{name: "a CONNACK with a reserved code", play: instead("\x20\x02\x00\x06"), says: []string{malformed, "reserved return code 6"}},
		{name: "a CONNACK that is too long", play: instead("\x20\x03\x00\x00\x00"), says: []string{malformed}},
		{name: "a CONNACK with flags", play: instead("\x21\x02\x00\x00"), says: []string{malformed}},
		{name: "a PUBLISH before CONNACK", play: func(c *hostileConn, topic string) {
			c.connect(string(rawPublish(wire.QoS1, topic, 1, "early")))
			c.drain()
		}, says: []string{protocol, "before CONNACK"}},
		{name: "two CONNACKs", play: instead(connack + connack), says: []string{protocol, "second CONNACK"}},
		{name: "a SUBACK with too many codes", play: suback(func(b []byte) []byte { b[1] += 2; return append(b, 1, 1) }), says: []string{malformed, "type 9"}},
		{name: "a SUBACK with too few codes", play: suback(func(b []byte) []byte { b[1]--; return b[:len(b)-1] }), says: []string{malformed, "type 9"}},
		{name: "a SUBACK without an id", play: suback(func([]byte) []byte { return []byte{0x90, 0} }), says: []string{malformed, "type 9"}},
		{name: "a SUBACK that refuses", play: suback(func(b []byte) []byte { b[4] = 0x80; return b }), says: []string{"refused the subscription"}},
		{name: "a SUBACK with a code that there is not", play: suback(func(b []byte) []byte { b[4] = 0x7f; return b }), says: []string{"refused the subscription"}},
		{name: "a SUBACK of QoS 0", play: suback(func(b []byte) []byte { b[4] = 0; return b }), says: []string{"QoS 0 only"}},
		{name: "a SUBACK for another SUBSCRIBE", play: suback(func(b []byte) []byte { b[3]++; return b }), says: []string{"does not answer SUBSCRIBE"}, slow: true},
		{name: "a length of five bytes", play: after("\x30\xff\xff\xff\xff\x01"), says: []string{malformed, "longer than four bytes"}},
		{name: "an endless PUBLISH", play: after("\x32\xff\xff\xff\x7f\x00\x05abc"), says: []string{"pingresp not received"}, with: proof.Settings{"mqtt.keepalive": "1s"}},
		{name: "a PUBLISH at QoS 3", play: publish(0x06, 1, "x"), says: []string{malformed, "both QoS bits"}},
		{name: "a PUBLISH at QoS 2", play: publish(0x04, 1, "x"), says: []string{protocol, "QoS 2"}},
		{name: "packet id 0", play: after("\x32\x06\x00\x02ab\x00\x00"), says: []string{malformed, "packet identifier 0"}},
		{name: "a topic longer than its packet", play: after("\x30\x04\xff\xffab"), says: []string{malformed, "topic length 65535"}},
		{name: "a PUBLISH of nothing", play: after("\x30\x00"), says: []string{malformed, "no room for a topic"}},
		{name: "a PUBLISH without room for its id", play: after("\x32\x05\x00\x03abc"), says: []string{malformed, "no room for a packet identifier"}},
		{name: "a PINGRESP with a body", play: after("\xd0\x01x"), says: []string{malformed, "type 13"}},
		{name: "a PUBLISH of 64 MB", play: func(c *hostileConn, topic string) {
			c.open()
			const size = 64 << 20 // the full announced length, so that the bridge reads the next packet
			head := binary.BigEndian.AppendUint16(binary.AppendUvarint([]byte{0x32}, size), uint16(len(topic)))
			c.Write(append(append(head, topic...), 0, 1))
			rest := size - 4 - len(topic)
			for chunk := make([]byte, 1<<20); rest > 0; rest -= len(chunk) {
				c.Write(chunk[:min(rest, len(chunk))])
			}
			c.Write(rawPublish(wire.QoS1, topic, 2, "next"))
			c.drain()
		}, want: []string{"quarantine.payload_too_large.device.d.t", "device.d.t next"}},
		{name: "a topic with NUL", play: func(c *hostileConn, topic string) {
			c.open()
			c.Write(rawPublish(wire.QoS1, topic+"\x00", 1, topic))
			c.drain()
		}, want: []string{"quarantine.bad_topic"}},
		{name: "a topic that was not subscribed", play: func(c *hostileConn, topic string) {
			c.open()
			c.Write(rawPublish(wire.QoS1, "$JS/API/STREAM/DELETE/TELEMETRY", 1, topic))
			c.drain()
		}, want: []string{"quarantine.not_subscribed.%24JS.API.STREAM.DELETE.TELEMETRY"}},
		{name: "wildcards in topics", play: func(c *hostileConn, topic string) {
			c.open()
			c.Write(rawPublish(wire.QoS1, topic+"+#*>", 1, "x"))
			c.drain()
		}, want: []string{"device.d.t+#%2A%3E x"}},
		{name: "one packet id for several messages", play: func(c *hostileConn, topic string) {
			c.open()
			for i := range 3 {
				c.Write(rawPublish(wire.QoS1, topic, 7, fmt.Sprint(i)))
			}
			c.drain()
		}, want: []string{"device.d.t 0", "device.d.t 1", "device.d.t 2"}},
		{name: "DUP on what was never sent, and again", play: func(c *hostileConn, topic string) {
			c.open()
			// The preceding message establishes the packet id, whether or not its PUBACK has
			// crossed this PUBLISH.
			c.Write(rawPublish(wire.QoS1, topic, 6, "before"))
			for range 3 {
				c.Write(rawPublish(wire.Dup|wire.QoS1, topic, 7, "once"))
				time.Sleep(20 * time.Millisecond) // by then the message may be acknowledged
			}
			c.drain()
		}, want: []string{"device.d.t before", "device.d.t once"}},
		{name: "unsolicited answers", play: func(c *hostileConn, topic string) {
			c.open()
			io.WriteString(c, strings.Repeat("\xd0\x00", 100_000))   // PINGRESP
			io.WriteString(c, strings.Repeat("\xb0\x02\x00\x09", 9)) // UNSUBACK
			c.Write(bytes.Repeat(c.suback, 9))
			c.Write(rawPublish(wire.QoS1, topic, 1, "still here"))
			c.drain()
		}, want: []string{"device.d.t still here"}},
		{name: "one byte at a time", play: func(c *hostileConn, topic string) {
			slowly := func(b []byte) {
				for i := range b {
					c.Write(b[i : i+1])
					time.Sleep(time.Millisecond)
				}
			}
			c.connect("")
			slowly([]byte(connack))
			c.subscribe()
			slowly(c.suback)
			slowly(rawPublish(wire.QoS1, topic, 1, "slow"))
			c.drain()
		}, want: []string{"device.d.t slow"}},
	}
	for kind := range byte(16) {
		if kind == 2 || kind == 3 || kind == 9 || kind == 11 || kind == 13 {
			continue // a subscriber at QoS 1 gets these types
		}
		attacks = append(attacks, brokerAttack{
			name: fmt.Sprintf("packet type %d", kind), play: after(string([]byte{kind << 4, 2, 0, 1})),
			says: []string{protocol, fmt.Sprintf("packet type %d is not for a subscriber", kind)},
		})
	}
	return attacks
}

// hostileRun is a bridge between a hostile broker and a well-behaved JetStream.
type hostileRun struct {
	t      *testing.T
	tenant string
	js     natsjs.JetStream
	broker *hostileBroker
	bridge *daemon.Bridge
}

// witness is the payload that the broker publishes on correctly served connections.
const witness = "after all that"

func startHostileRun(t *testing.T, js natsjs.JetStream, natsURL, tenant string, play func(*hostileConn, string), more ...proof.Settings) *hostileRun {
	topic := "tenant/" + tenant + "/device/d/t"
	r := &hostileRun{t: t, tenant: tenant, js: js}
	r.broker = startHostileBroker(t,
		func(c *hostileConn) { play(c, topic) },
		func(c *hostileConn) {
			c.open()
			c.Write(rawPublish(wire.QoS1, topic, 100, witness))
			c.drain()
		})
	s := proof.PlainSettings("mqtt://"+r.broker.addr, natsURL).With("mqtt.client_id", tenant)
	for _, m := range more {
		maps.Copy(s, m)
	}
	r.bridge = proof.StartInProcess(t, s)
	return r
}

// stored returns all messages in this run's streams as "subject payload", without the tenant.
func (r *hostileRun) stored() (all []string) {
	for _, stream := range []string{"TELEMETRY", "QUARANTINE"} {
		proof.ReadStream(r.t, r.js, stream, func(m natsjs.Msg, _ *natsjs.MsgMetadata) {
			own := ".tenant." + r.tenant + "."
			subject := "." + m.Subject() + "."
			if strings.Contains(subject, own) || strings.Contains(string(m.Data()), "tenant/"+r.tenant+"/") {
				subject = strings.Trim(strings.Replace(subject, own, ".", 1), ".")
				text := strings.TrimRight(string(m.Data()), "\x00")
				if strings.HasPrefix(text, "tenant/") {
					text = ""
				}
				all = append(all, strings.TrimRight(subject+" "+text, " "))
			}
		})
	}
	return all
}

func TestHostileBroker(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	for i, a := range brokerAttacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			if a.slow && testing.Short() {
				t.Skip("waits for a time-out of 10 s")
			}
			r := startHostileRun(t, js, server.URL(), fmt.Sprintf("a%d", i), a.play, a.with)
			if a.says != nil {
				p := proof.AwaitProblem(t, r.bridge, "mqtt", a.says...)
				require.NotContains(t, p.Problem, "panic")
			} else {
				proof.Eventually(t, func() bool { return len(r.broker.acked()) >= len(a.want) && len(r.stored()) == len(a.want) }, func() any { return r.bridge.Problems() })
				slices.Sort(a.want)
				got := r.stored()
				slices.Sort(got)
				require.Equal(t, a.want, got)
				require.Empty(t, r.bridge.Problems())
				return
			}
			require.Empty(t, r.broker.acked(), "acknowledged, and not stored")
			require.Empty(t, r.stored())
			if strings.Contains(strings.Join(a.says, " "), "refused the subscription") || strings.Contains(a.says[0], "QoS 0 only") {
				return // it stays connected and retries after 30 s
			}
			close(r.broker.serve)
			proof.Eventually(t, func() bool { return len(r.broker.acked()) == 1 }, func() any { return r.bridge.Problems() })
			require.Equal(t, []uint16{100}, r.broker.acked())
			require.Equal(t, []string{"device.d.t " + witness}, r.stored())
			proof.Eventually(t, func() bool { return len(r.bridge.Problems()) == 0 }, func() any { return r.bridge.Problems() })
		})
	}
}

// The connection may end after any byte. Only a complete PUBLISH is stored, and only stored
// messages are acknowledged.
func TestHostileBrokerCut(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	const payload = "whole"
	size := len(connack) + 7 + len(rawPublish(wire.QoS1, "tenant/c00/device/d/t", 1, payload))
	step := 2
	if testrun.Quick() {
		step = 7
	}
	for cut := size; cut >= 0; cut -= step { // uncut first
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			r := startHostileRun(t, js, server.URL(), fmt.Sprintf("c%02d", cut), func(c *hostileConn, topic string) {
				left := cut
				write := func(b string) bool {
					n := min(left, len(b))
					io.WriteString(c, b[:n])
					left -= n
					return n == len(b)
				}
				if c.read(); !write(connack) {
					return
				}
				if c.subscribe(); !write(string(c.suback)) || !write(string(rawPublish(wire.QoS1, topic, 1, payload))) {
					return
				}
				for { // uncut: read until the PUBACK
					if kind, _, err := c.read(); kind == 4 || err != nil {
						return
					}
				}
			})
			close(r.broker.serve)
			proof.Eventually(t, func() bool { return slices.Contains(r.broker.acked(), 100) }, func() any { return r.bridge.Problems() })
			want, acks := []string{"device.d.t " + witness}, []uint16{100}
			if cut == size {
				want, acks = append([]string{"device.d.t " + payload}, want...), []uint16{1, 100}
			}
			require.Equal(t, want, r.stored())
			require.Equal(t, acks, r.broker.acked())
		})
	}
}

// The broker exceeds any window and does not wait for acknowledgements. No message is
// acknowledged before it is stored, and all are acknowledged in the end.
func TestHostileBrokerFlood(t *testing.T) {
	t.Parallel()
	n := 60_000
	if testrun.Quick() {
		n = 10_000
	}
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	r := startHostileRun(t, js, server.URL(), "flood", func(c *hostileConn, topic string) {
		c.open()
		var both sync.WaitGroup
		both.Go(func() {
			for sent := 0; sent < n; sent += 100 {
				var batch []byte
				for i := range 100 {
					batch = append(batch, rawPublish(wire.QoS1, topic, proof.PacketID(sent+i), fmt.Sprint(sent+i))...)
				}
				if _, err := c.Write(batch); err != nil {
					return // the stream check will find it missing
				}
			}
		})
		c.drain()
		both.Wait()
	})
	proof.Eventually(t, func() bool { return len(r.broker.acked()) == n }, func() any { return r.bridge.Totals() })
	for i, id := range r.broker.acked() {
		require.Equal(t, proof.PacketID(i), id, "in order [MQTT-4.6.0-2]")
	}
	next := 0
	proof.ReadStream(t, js, "TELEMETRY", func(m natsjs.Msg, _ *natsjs.MsgMetadata) {
		require.Equal(t, fmt.Sprint(next), string(m.Data()))
		next++
	})
	require.Equal(t, n, next)
}
