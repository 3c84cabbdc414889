package simulate

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/simulate/streams"
)

// letter is one message as its device published it. Its content is not its own:
// devices send the same bytes again.
type letter struct {
	number  int // names it in the simulation; the header streams.Number has it
	device  int
	topic   string
	payload string
	qos     byte
	retain  bool

	sent    int  // its place in the order of the broker's first sending; 0: not sent
	dup     bool // its device set DUP, and the broker passes it on
	lost    bool // by the broker, with its session
	excused bool // it may be stored twice: no rule can tell
	other   bool // another process, or a broker set back, has stored it or may have
	first   bool // it was the first delivery since nothing was known of packet ids
	puback  bool // the bridge has acknowledged it, perhaps in vain
	mayFail bool // nobody promises any more that it is stored: QoS 0, and the bridge ended
	expects bool // a check refuses it, so that it may be counted instead of stored

	settled  time.Time // since when the lane knows that it is stored; zero: it does not
	counted  bool      // the lane has only counted it
	lifetime int       // of the bridge that was last given it
	began    int       // of the bridge that was given it first
}

// kinds of letters; publish has them in b/2.
const (
	plain        = iota
	atMostOnce   // QoS 0
	oversize     // over the payload limit
	foreign      // a topic that no route takes
	refusable    // JetStream never takes it
	unwanted     // nor its copy, while that has a payload
	unsendable   // the client does not send it
	retainedCopy // of a retained message, sent on subscribe
	kinds        // how many there are
)

// payloadLimit is the bridge's, in bytes.
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
		l.payload, l.expects = strings.Repeat(l.payload, streams.Limit+1), true
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

// packet is a PUBLISH.
type packet struct {
	id   uint16 // 0 at QoS 0
	dup  bool
	pong uint64 // it is the answer to a ping with this mark
	*letter
}

// broker is the MQTT end: one session with a queue, a window, and packet ids in
// turn.
type broker struct {
	w        *world
	queue    []*letter
	inFlight []packet // in the order of sending
	nextID   uint16
	sent     int
	kept     bool // the session, since the bridge was last connected

	conn *conn // nil: none
	pipe []packet

	recent   []uint16 // the latest packet ids
	saved    *snapshot
	seen     time.Time // when the bridge was last known to be connected
	stopped  bool      // the process stood still since
	crossed  bool      // a message was sent again that was acknowledged
	unproved bool      // nothing was delivered yet that shows how packets are numbered
}

// snapshot is a broker's state on disk.
type snapshot struct {
	queue    []*letter
	inFlight []packet
	nextID   uint16
}

// conn is one network connection, the bridge's end of which is a [bridge.Conn].
type conn struct {
	w        *world
	p        *process
	owed     []packet // PUBACKs, in the order of delivery
	answered map[*letter]bool
	appended []uint16
	wire     []uint16           // 0 is a ping
	letters  map[uint16]*letter // by the packet id under which they were delivered
	resumes  int                // redelivered packets that are still to be read
	mark     uint64             // of the fence that is out; 0: none
	cut      bool               // on the broker's side
	closed   bool               // on the bridge's side
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
	for len(c.owed) > 0 && c.owed[0].id != id && c.answered[c.owed[0].letter] {
		c.owed = c.owed[1:] // read again after its PUBACK: another one may follow
	}
	switch {
	case c.closed:
		c.w.fail(strayAck, "PUBACK %d on a connection that has ended", id)
	case len(c.owed) == 0:
		c.w.fail(strayAck, "PUBACK %d for nothing", id)
	case c.owed[0].id != id:
		c.w.fail(ackOrder, "PUBACK %d, but %d was delivered before", id, c.owed[0].id)
	default:
		c.w.acked = append(c.w.acked, c.owed[0].letter)
		c.answered[c.owed[0].letter] = true
		c.owed = c.owed[1:]
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

// owe notes that the bridge has been given a packet on this connection.
func (c *conn) owe(p packet) {
	for _, o := range c.owed {
		if o.id == p.id {
			return
		}
	}
	c.owed = append(c.owed, p)
}

func (b *broker) up() bool { return b.conn != nil && !b.conn.cut }

// send sends messages from the queue as far as the window allows.
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

// retry is a broker that does not wait for a reconnect.
func (b *broker) retry(which int, all bool) {
	if !b.up() || len(b.inFlight) == 0 {
		return
	}
	which %= len(b.inFlight)
	for i, p := range b.inFlight {
		if all || i == which {
			p.dup = true
			// It crosses its PUBACK, and is redelivered no more.
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

// cut ends the connection on the broker's side.
func (b *broker) cut(packets, acks int) {
	if !b.up() {
		return
	}
	b.takeAcks(acks)
	b.conn.cut = true
	b.pipe = b.pipe[:min(packets, len(b.pipe))]
	b.w.logf("the broker's connection dies, %d packets are on their way", len(b.pipe))
}

// connect resumes the session: what is in flight comes again in its order, with
// DUP set and under its old packet id (MQTT 3.1.1 §4.4), before anything new.
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

// disconnected is the bridge's end of a connection gone.
func (b *broker) disconnected() {
	b.conn.cut, b.conn.closed = true, true
	b.conn, b.pipe = nil, nil
}

// lose is a broker that restarts without its sessions and counts packets anew.
func (b *broker) lose() {
	if b.up() {
		b.cut(0, 0)
	}
	for _, p := range b.inFlight {
		p.lost = true
	}
	for _, l := range b.queue {
		l.lost = true
	}
	b.queue, b.inFlight, b.nextID, b.kept, b.saved, b.unproved = nil, nil, 1, false, nil, true
	b.w.logf("the broker loses the session")
}

// flood is a subscription to very many retained messages: it uses up packet ids
// until they come round to the latest message but for so many. It does not begin while the bridge
// owes a PUBACK for a copy that crossed one: that would be taken for one of a copy.
func (b *broker) flood(but int) {
	if !b.up() || len(b.pipe)+len(b.inFlight)+len(b.conn.owed) > 0 || b.w.process == nil || b.w.setup.Retained || b.w.floods == 2 {
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
