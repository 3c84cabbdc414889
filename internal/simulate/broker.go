package simulate

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/simulate/jetstream"
)

// letter is one message as its device published it. Its content does not identify it: devices send
// the same bytes again.
type letter struct {
	number  int // identifies it in the simulation, in the header jetstream.Number
	device  int
	topic   string
	payload string
	qos     byte
	retain  bool

	sent    int  // position in the order in which the broker first sent it; 0: not sent
	dup     bool // its device set DUP, and the broker forwards the flag
	lost    bool // the broker lost it with its session
	excused bool // may be stored twice: no rule can detect the duplicate
	other   bool // another process, or the time before a broker rollback, may have stored it
	first   bool // first delivery after the knowledge of packet ids was lost
	puback  bool // the bridge has sent a PUBACK, which may not have arrived
	mayFail bool // storing is no longer guaranteed: QoS 0, and the bridge ended
	expects bool // a check rejects it, so it may be counted instead of stored

	settled  time.Time // when the lane learned that it is stored; zero: not yet
	counted  bool      // the lane has counted it instead of storing it
	lifetime int       // of the bridge that received it last
	began    int       // of the bridge that received it first
}

// These are the kinds of letters; publish has them in b/2.
const (
	plain        = iota
	atMostOnce   // QoS 0
	oversize     // over the payload limit
	foreign      // a topic without a route
	refusable    // JetStream always rejects it
	unwanted     // JetStream also rejects its copy in quarantine, if that has a payload
	unsendable   // the NATS client refuses to send it
	retainedCopy // of a retained message, sent on subscribe
	kinds        // number of kinds
)

// payloadLimit is the payload limit of the bridge, in bytes.
const payloadLimit = 64

func (w *world) letter(device, kind, payload int) *letter {
	l := &letter{number: len(w.letters) + 1, device: device % w.setup.Devices, qos: 1}
	l.topic = fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", l.device)
	l.payload = string(rune('a' + payload%2))
	switch kind % kinds {
	case atMostOnce:
		l.qos = 0
	case oversize:
		l.payload, l.expects = strings.Repeat(l.payload, payloadLimit+1), true
	case foreign:
		l.topic, l.expects = fmt.Sprintf("elsewhere/dev-%d", l.device), true
	case refusable:
		l.payload, l.expects = "refuse "+l.payload, true
	case unwanted:
		l.payload, l.expects = "never "+l.payload, true
	case unsendable:
		l.payload, l.expects = strings.Repeat(l.payload, jetstream.Limit+1), true
	case retainedCopy:
		l.retain, l.expects = true, !w.setup.Retained
	}
	l.expects = l.expects || w.setup.Limited
	if w.setup.Attested {
		l.topic = fmt.Sprintf("bridge/v1/d/%032X/%d/%s/%s", l.number, time.Now().Add(time.Duration(w.setup.BrokerSkew)*time.Second).UnixMilli(),
			hex.EncodeToString(fmt.Appendf(nil, "acme/dev-%d", l.device)), l.topic)
	}
	l.dup = w.setup.PassDup && l.number%3 > 0
	w.letters = append(w.letters, l)
	return l
}

// packet is a PUBLISH, or the answer to a ping.
type packet struct {
	id   uint16 // 0 at QoS 0
	dup  bool
	pong uint64 // not 0: the answer to a ping with this mark
	*letter
}

// broker is the MQTT side: one session with a window.
type broker struct {
	w *world
	session
	sent int
	kept bool // the session was kept since the bridge was last connected

	conn *conn // nil: none
	pipe []packet

	recent   []uint16 // the latest packet ids
	saved    *session
	seen     time.Time // when the bridge was last connected
	stopped  bool      // the process has been suspended since
	crossed  bool      // an acknowledged message was sent again
	unproved bool      // no delivery has shown yet how packets are numbered
}

// session is the state of a broker that a snapshot on disk contains. Packet ids are consecutive.
type session struct {
	queue    []*letter
	inFlight []packet // in the order of sending
	nextID   uint16
}

// messages returns those in flight, then those in the queue.
func (s *session) messages() (all []*letter) {
	for _, p := range s.inFlight {
		all = append(all, p.letter)
	}
	return append(all, s.queue...)
}

// conn is one network connection. The bridge uses it as a [bridge.Conn].
type conn struct {
	w           *world
	p           *process
	awaitingAck []packet // packets without a PUBACK, in the order of delivery
	answered    map[*letter]bool
	appended    []uint16
	wire        []uint16           // 0 is a ping
	letters     map[uint16]*letter // by packet id at delivery
	resumes     int                // redelivered packets that are not read yet
	mark        uint64             // mark of the fence in progress; 0: none
	cut         bool               // by the broker
	closed      bool               // by the bridge
}

// Ack implements [bridge.Conn].
func (c *conn) Ack(id uint16) {
	if c.p.Dead {
		return
	}
	c.w.logf("PUBACK %d", id)
	if l := c.letters[id]; l != nil {
		l.puback = true
	}
	for len(c.awaitingAck) > 0 && c.awaitingAck[0].id != id && c.answered[c.awaitingAck[0].letter] {
		c.awaitingAck = c.awaitingAck[1:] // redelivered after its PUBACK: another PUBACK may follow
	}
	switch {
	case c.closed:
		c.w.fail(strayAck, "PUBACK %d on a connection that has ended", id)
	case len(c.awaitingAck) == 0:
		c.w.fail(strayAck, "PUBACK %d, but nothing awaits one", id)
	case c.awaitingAck[0].id != id:
		c.w.fail(ackOrder, "PUBACK %d, but %d was delivered before", id, c.awaitingAck[0].id)
	default:
		c.w.acked = append(c.w.acked, c.awaitingAck[0].letter)
		c.answered[c.awaitingAck[0].letter] = true
		c.awaitingAck = c.awaitingAck[1:]
		c.appended = append(c.appended, id)
	}
}

// Flush implements [bridge.Conn].
func (c *conn) Flush() {
	if !c.cut {
		c.wire = append(c.wire, c.appended...)
	}
	c.appended = nil
}

// Fence implements [bridge.Fencer].
func (c *conn) Fence(mark uint64) {
	if c.mark == 0 && !c.closed && !c.w.sabotage.noFence {
		c.mark = mark
		c.Flush()
		if c.w.sabotage.hastyFence {
			c.w.broker.pipe = append([]packet{{pong: mark}}, c.w.broker.pipe...)
		} else if !c.cut {
			c.wire = append(c.wire, 0)
		}
	}
}

// expectAck records that the bridge has received a packet on this connection.
func (c *conn) expectAck(p packet) {
	for _, o := range c.awaitingAck {
		if o.id == p.id {
			return
		}
	}
	c.awaitingAck = append(c.awaitingAck, p)
}

func (b *broker) up() bool { return b.conn != nil && !b.conn.cut }

// send sends up to n messages from the queue, within the window.
func (b *broker) send(n int) {
	for range n {
		if !b.up() || len(b.queue) == 0 || b.queue[0].qos > 0 && len(b.inFlight) >= b.w.setup.Window {
			return
		}
		l := b.queue[0]
		b.queue = b.queue[1:]
		b.sent++
		l.sent = b.sent
		p := packet{letter: l, dup: l.dup}
		if l.qos > 0 {
			p.id = b.id()
			b.inFlight = append(b.inFlight, p)
		}
		b.pipe = append(b.pipe, p)
		b.w.logf("the broker sends %v", p)
	}
}

func (b *broker) id() uint16 {
	id := b.nextID
	if b.nextID++; b.nextID == 0 {
		b.nextID = 1
	}
	b.recent = append(b.recent[max(len(b.recent)-15, 0):], id)
	return id
}

// retry resends messages on the same connection, as some brokers do.
func (b *broker) retry(which int, all bool) {
	if !b.up() || len(b.inFlight) == 0 {
		return
	}
	which %= len(b.inFlight)
	for i, p := range b.inFlight {
		if all || i == which {
			p.dup = true
			// It crosses its PUBACK and is not redelivered again.
			p.excused = p.excused || b.conn.answered[p.letter]
			b.pipe = append(b.pipe, p)
			b.w.logf("the broker sends %v", p)
		}
	}
}

func (b *broker) takeAcks(n int) {
	for range n {
		if !b.up() || len(b.conn.wire) == 0 {
			return
		}
		id := b.conn.wire[0]
		b.conn.wire = b.conn.wire[1:]
		if id == 0 {
			b.pipe = append(b.pipe, packet{pong: b.conn.mark})
			continue
		}
		for i, p := range b.inFlight {
			if p.id == id {
				b.inFlight = append(b.inFlight[:i:i], b.inFlight[i+1:]...)
				b.w.logf("the broker has the PUBACK of %v", p)
				break
			}
		}
	}
}

// cut ends the connection at the broker.
func (b *broker) cut(packets, acks int) {
	if !b.up() {
		return
	}
	b.takeAcks(acks)
	b.conn.cut = true
	b.pipe = b.pipe[:min(packets, len(b.pipe))]
	b.w.logf("the broker's connection dies, %d packets are on their way", len(b.pipe))
}

// connect resumes the session. Messages in flight are redelivered before new ones, in order, with
// DUP set and under their old packet ids (MQTT 3.1.1 §4.4).
func (b *broker) connect() {
	p := b.w.process
	if b.conn != nil || p == nil {
		return
	}
	b.conn, b.pipe = &conn{w: b.w, p: p, answered: map[*letter]bool{}, letters: map[uint16]*letter{}}, nil
	if b.w.setup.Anew {
		b.nextID, b.unproved = 1, true
		for i := range b.inFlight {
			b.inFlight[i].id = b.id()
		}
	}
	b.excuse()
	b.w.logf("the bridge connects to the broker, session present: %v, %d messages in flight", b.kept, len(b.inFlight))
	p.lane.Connected(b.conn, b.kept)
	b.kept = true
	for _, f := range b.inFlight {
		f.dup = true
		b.pipe = append(b.pipe, f)
	}
	b.conn.resumes = len(b.inFlight)
}

// disconnected ends the connection at the bridge.
func (b *broker) disconnected() {
	b.conn.cut, b.conn.closed = true, true
	b.conn, b.pipe = nil, nil
}

// lose restarts the broker without its sessions; packet ids start again.
func (b *broker) lose() {
	b.cut(0, 0)
	for _, l := range b.messages() {
		l.lost = true
	}
	b.session, b.kept, b.saved, b.unproved = session{nextID: 1}, false, nil, true
	b.w.logf("the broker loses the session")
}

// flood sends very many retained messages, until the packet ids have wrapped around to but ids
// before the latest message. It does not start while the bridge owes a PUBACK for a redelivery that
// crossed one: that PUBACK would be counted for a retained copy.
func (b *broker) flood(but int) {
	if !b.up() || len(b.pipe)+len(b.inFlight)+len(b.conn.awaitingAck) > 0 || b.w.process == nil || b.w.setup.Retained || b.w.floods == 2 {
		return
	}
	b.w.floods++
	b.w.logf("the broker sends %d retained copies", packetIDs-1-but)
	l := b.w.letter(0, retainedCopy, 0)
	for range packetIDs - 1 - but {
		b.w.deliver(packet{id: b.id(), letter: l})
		b.conn.letters[b.nextID-1] = l
		b.conn.Flush()
		if b.w.violation != nil {
			return
		}
	}
	b.takeAcks(packetIDs)
}

const packetIDs = 1 << 16

func (p packet) String() string {
	if p.pong > 0 {
		return "the answer to a ping"
	}
	s := fmt.Sprintf("message %d", p.number)
	if p.id > 0 {
		s += fmt.Sprintf(" (packet %d)", p.id)
	}
	if p.dup {
		s += " again"
	}
	return s
}
