package bridge

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// LaneOptions describe a lane. Name, Rules, Limits, Devices and Tenants are
// required.
type LaneOptions struct {
	// Name is the client id of the lane's MQTT session and the beginning of
	// the message ids it gives.
	Name    string
	Rules   *Rules
	Limits  *LiveLimits // shared by all lanes, as are Devices and Tenants
	Devices *Devices
	Tenants *Devices
	// Journal tells redeliveries from new messages; nil: one in memory. The
	// lane uses it, its owner closes it.
	Journal *Journal
	// QoS0Pending bounds the QoS 0 messages that wait for JetStream; what is
	// beyond is counted and dropped: at most once is what they asked for.
	// 0: 10,000.
	QoS0Pending int
	// MaxBytes bounds the messages that wait for JetStream, in bytes: beyond
	// it the connection pauses, and QoS 0 messages are dropped at half of it.
	// 0: 32 MiB.
	MaxBytes int
	// Now is the clock, in ns since the epoch; nil: time.Now.
	Now func() int64
}

func (o *LaneOptions) setDefaults() error {
	if o.Name == "" || o.Rules == nil || o.Limits == nil || o.Devices == nil || o.Tenants == nil {
		return errors.New("make lane: Name, Rules, Limits, Devices and Tenants are required")
	}
	if err := o.Rules.validate(); err != nil {
		return fmt.Errorf("make lane: %w", err)
	}
	if o.Journal == nil {
		o.Journal = NewJournal()
	}
	if o.QoS0Pending <= 0 {
		o.QoS0Pending = 10_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 32 << 20
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixNano() }
	}
	return nil
}

// Lane is the unit of parallelism: one MQTT session, one ring, one publisher. It
// is the [Receiver] of the session and the [Settler] of the publisher.
//
// What it promises: each QoS 1 delivery is acknowledged only after JetStream has
// stored it (or its quarantine copy), on the connection that delivered it, and
// after everything that this connection delivered before. Messages are published
// in the order of delivery.
type Lane struct {
	opts      LaneOptions
	judge     *judge
	publisher Publisher

	// Of the reading goroutine alone.
	message Message
	headers [7]Header
	idBuf   []byte
	values  []byte
	subject []byte
	stamp   stamp

	mu      sync.Mutex
	ring    *ring
	journal *Journal
	waiting int    // messages that are not settled
	pending int    // those of them at QoS 0
	held    int    // their bytes
	qos0    uint64 // numbers their ids
	away    int64  // since when there is no connection, ns; 0: there is one
	conn    Conn
	epoch   uint32 // numbers the connections
	debts   debts
	acked   int // PUBACKs appended since the lane last wrote them out
	catchUp catchUp
	counts  Counts
	idle    chan struct{} // closed when the ring runs empty; nil: nobody waits
	room    chan struct{} // closed when deliveries may go on; nil: they may
}

// NewLane makes a lane. Start must be called before its session is opened.
func NewLane(opts LaneOptions) (*Lane, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	return &Lane{
		opts:    opts,
		judge:   newJudge(&opts),
		ring:    newRing(),
		debts:   newDebts(),
		journal: opts.Journal,
		qos0:    uint64(opts.Now()),
		away:    opts.Journal.Alive(),
		catchUp: catchUp{arrears: &opts.Tenants.arrears},
	}, nil
}

// Start gives the lane its publisher.
func (l *Lane) Start(p Publisher) { l.publisher = p }

// Connected implements [Receiver].
func (l *Lane) Connected(c Conn, sessionPresent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opts.Now()
	if sessionPresent && l.opts.Rules.Attested == nil {
		outage := unknownOutage
		if l.away > 0 {
			outage = now - l.away
		}
		l.catchUp.grant(now, outage)
	}
	if !sessionPresent {
		// The broker numbers its packets anew: a packet id and the bytes
		// that went with it in the lost session say nothing any more.
		l.journal.Forget()
		l.ring.forget()
	}
	l.away, l.conn = 0, c
	l.epoch++
	l.debts.head = l.debts.tail
	l.journal.SetAlive(now)
}

// Disconnected implements [Receiver].
func (l *Lane) Disconnected(c Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == c {
		l.conn, l.away = nil, l.opts.Now()
		l.debts.head = l.debts.tail // what was not acknowledged comes again
	}
}

// Deliver implements [Receiver]. A message walks through the checks, gets its
// id, takes its place in the ring and goes to the publisher; its PUBACK follows
// when Settle says so.
func (l *Lane) Deliver(c Conn, d *Delivery) {
	hash := l.hash(d)
	again, number := l.redelivered(c, d, hash)
	if again == settledBefore {
		return
	}
	if d.Retain && !l.opts.Rules.ForwardRetained {
		l.skipRetained(c, d, hash)
		return
	}
	j := l.judge
	j.read(d)
	if again == isNew {
		j.charge(l.credit(d.ReceivedAt))
	}
	store := true
	if j.reason != Accepted {
		within := j.reported(d)
		store = (within || j.reason == NotSubscribed) && l.opts.Rules.Quarantine
	}
	token, number, ok := l.enter(c, d, hash, number, store)
	if !ok {
		return
	}
	l.message.Token, l.message.Order = token, j.sender.hash
	if j.reason == Accepted {
		l.accepted(d, number)
	} else {
		l.quarantined(d, number)
	}
	l.publisher.Publish(&l.message)
}

// hash is of what makes two deliveries the same message: the topic, which holds
// the broker's id where it attests, and the payload where it does not.
func (l *Lane) hash(d *Delivery) uint64 {
	h := xxhash.Sum64(d.Topic)
	if l.opts.Rules.Attested == nil {
		h = h*0x9e3779b97f4a7c15 ^ xxhash.Sum64(d.Payload)
	}
	return h
}

// recurrence is what a delivery with DUP set turns out to be.
type recurrence int

const (
	isNew         recurrence = iota // not seen, or not known any more
	isKnown                         // has its number, but may not be stored
	settledBefore                   // nothing to do but its PUBACK
)

// redelivered looks a delivery up that came with DUP set. DUP alone says nothing
// (MQTT 3.1.1 §3.3.1.1): the broker may have sent the message into a connection
// that died before it arrived.
func (l *Lane) redelivered(c Conn, d *Delivery, hash uint64) (recurrence, uint64) {
	if !d.Dup || d.QoS == 0 {
		return isNew, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Redelivered++
	if token, ok := l.ring.waiting(d.PacketID, hash); ok {
		// Its publish is under way, the PUBACK is due on this connection.
		l.owe(c, token, d.PacketID)
		l.advance()
		return settledBefore, 0
	}
	number, stored, ok := l.journal.Find(d.PacketID, hash)
	if !ok {
		return isNew, 0
	}
	if stored {
		// Not acknowledged at once: PUBACKs go out in the order of the
		// PUBLISHes [MQTT-4.6.0-2].
		l.owe(c, l.ring.push(slot{packetID: d.PacketID, hash: hash, settled: true}), d.PacketID)
		l.advance()
		return settledBefore, 0
	}
	return isKnown, number
}

// enter gives a judged delivery its number and its place in the ring. ok is
// false where there is nothing to publish.
func (l *Lane) enter(c Conn, d *Delivery, hash, number uint64, store bool) (token, _ uint64, ok bool) {
	j := l.judge
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Received++
	l.counts.ReceivedBytes += uint64(d.PayloadSize)
	s := slot{
		hash: hash, received: d.ReceivedAt, sender: j.sender,
		packetID: d.PacketID, reason: j.reason, number: number,
		size:    len(d.Topic) + len(d.Payload),
		wrapped: j.reason == Accepted && l.opts.Rules.format(j.route) == Envelope,
	}
	if j.reason != Accepted {
		l.counts.Rejected[j.reason]++
		if !store {
			l.counts.QuarantineSkipped++
		}
	}
	if d.QoS == 0 {
		if !store {
			return 0, 0, false // nobody waits for its PUBACK
		}
		if l.pending >= l.opts.QoS0Pending || l.held >= l.opts.MaxBytes/2 {
			l.counts.QoS0Dropped++
			return 0, 0, false
		}
		l.qos0++
		s.number = l.qos0
	} else {
		if number == 0 {
			s.number = l.journal.Begin(d.PacketID, hash)
		}
		s.noted = true
	}
	if d.QoS == 0 {
		l.pending++
	}
	l.waiting++
	l.held += s.size
	token = l.ring.push(s)
	if !store {
		l.finish(l.ring.at(token))
	}
	if d.QoS > 0 {
		l.owe(c, token, d.PacketID)
	}
	if !store {
		l.advance()
	}
	return token, s.number, store
}

// owe notes that the PUBACK of a slot is due on the connection c, once: a second
// one could hit the next message under that packet id.
func (l *Lane) owe(c Conn, token uint64, packetID uint16) {
	if s := l.ring.at(token); c == l.conn && s.epoch != l.epoch {
		s.epoch = l.epoch
		l.debts.push(debt{token, packetID})
	}
}

// skipRetained acknowledges a retained copy without storing it: it was sent
// because the bridge subscribed, not because a device published.
func (l *Lane) skipRetained(c Conn, d *Delivery, hash uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.RetainedSkipped++
	if d.QoS > 0 {
		l.journal.Pass(d.PacketID, hash)
		l.owe(c, l.ring.push(slot{packetID: d.PacketID, hash: hash, settled: true}), d.PacketID)
		l.advance()
	}
}

// ackBatch is after how many PUBACKs Settle writes them out while answers keep
// coming: at 100,000 messages per second that is about 1 ms.
const ackBatch = 128

// Settle implements [Settler].
func (l *Lane) Settle(r *Result) {
	l.mu.Lock()
	l.settle(r)
	full := l.acked >= ackBatch
	l.mu.Unlock()
	if full {
		l.SettleDone()
	}
}

func (l *Lane) settle(r *Result) {
	s := l.ring.get(r.Token)
	if s == nil || s.settled {
		return
	}
	if r.Refused != nil {
		l.refused(s, r)
		return
	}
	now := l.opts.Now()
	if r.Duplicate {
		l.counts.Duplicates++
	}
	if s.reason == Accepted {
		l.counts.Stored++
		l.counts.AckLatency.observe(now - s.received)
		l.opts.Devices.stored(s.sender)
	} else {
		l.counts.Quarantined[s.reason]++
	}
	l.finish(s)
	if r.Token == l.ring.head {
		l.catchUp.waited(now, now-s.received)
	}
	l.advance()
}

// finish settles a slot: its message is stored, or counted out.
func (l *Lane) finish(s *slot) {
	s.settled = true
	l.waiting--
	l.held -= s.size
	if s.noted {
		l.journal.Stored(s.packetID, s.number)
	}
	if s.packetID == 0 {
		l.pending--
	}
}

// advance takes settled slots off the ring's head and appends the PUBACKs that
// are due.
func (l *Lane) advance() {
	r := l.ring
	for r.head < r.tail && r.at(r.head).settled {
		*r.at(r.head) = slot{}
		r.head++
	}
	for d := &l.debts; d.head < d.tail; d.head++ {
		due := d.at(d.head)
		if s := r.get(due.token); s != nil && !s.settled {
			break
		}
		l.conn.Ack(due.packetID)
		l.acked++
	}
	if l.catchUp.length > 0 {
		l.catchUp.idle = l.opts.Now()
	}
	l.makeRoom()
	if l.idle != nil && r.len() == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// SettleDone implements [Settler]: it writes out the PUBACKs. The write may wait
// for a broker that does not read, so it happens without the lane's lock.
func (l *Lane) SettleDone() {
	l.mu.Lock()
	c := l.conn
	l.acked = 0
	l.mu.Unlock()
	if c != nil {
		c.Flush()
	}
}

// credit is how far back a device's budget reaches just now, in ns.
func (l *Lane) credit(now int64) int64 {
	if l.opts.Rules.Attested != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.catchUp.arrives(now, l.ring.len() > 0)
	return l.catchUp.credit(now)
}

// Tick is called about once a second: it notes in the journal that the broker is
// there, so that after a crash the lane knows for how long it was away. And it
// notices that a lane without messages has caught up.
func (l *Lane) Tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opts.Now()
	if l.conn != nil {
		l.journal.SetAlive(now)
	}
	l.catchUp.tick(now, l.conn == nil || l.ring.len() > 0)
}

// Idle returns a channel that is closed once every delivery so far is settled.
func (l *Lane) Idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ring.len() == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle
}

// appendID appends the message id: the broker's where it attests, else client
// id, packet id and number. An id never comes from the content alone: devices
// honestly send the same bytes twice.
func (l *Lane) appendID(dst []byte, d *Delivery, number uint64) []byte {
	if id := l.judge.attested.ID; id != nil {
		return append(dst, id...)
	}
	dst = append(dst, l.opts.Name...)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, uint64(d.PacketID), 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, number, 36)
}
