package bridge

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

// LaneOptions describe a lane. Name, Rules, Limits, Devices and Tenants are required.
type LaneOptions struct {
	// Name is the client id of the lane's MQTT session and the prefix of the message
	// ids that it assigns.
	Name    string
	Rules   *Rules
	Limits  *limit.Live // shared by all lanes, as are Devices and Tenants
	Devices *limit.Budgets
	Tenants *limit.Budgets
	// Journal distinguishes redeliveries from new messages; nil: one in memory. Its
	// owner closes it.
	Journal *journal.Journal
	// QoS0Pending bounds the QoS 0 messages that wait for JetStream. Further ones are
	// counted and dropped: QoS 0 is at most once. 0: 10,000.
	QoS0Pending int
	// MaxBytes bounds the messages that wait for JetStream, in bytes. Beyond it the
	// connection pauses; QoS 0 messages are dropped at half of it. 0: 32 MiB.
	MaxBytes int
	// Tracing has messages carry a trace context; nil: they do not.
	Tracing *Tracing
	// Now is the clock, in ns since the epoch; nil: time.Now.
	Now func() int64
}

func (o *LaneOptions) setDefaults() error {
	if o.Name == "" || o.Rules == nil || o.Limits == nil || o.Devices == nil || o.Tenants == nil {
		return errors.New("create lane: Name, Rules, Limits, Devices and Tenants are required")
	}
	if err := o.Rules.validate(); err != nil {
		return fmt.Errorf("create lane: %w", err)
	}
	if o.Journal == nil {
		o.Journal = journal.New()
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
// It guarantees that each QoS 1 delivery is acknowledged only after JetStream has stored
// it (or its quarantine copy), on the connection that delivered it, and after everything
// that this connection delivered before. Messages are published in the order of delivery.
type Lane struct {
	opts      LaneOptions
	validator *validator
	publisher Publisher

	// reading is locked during a delivery and protects the fields up to mu. It is taken
	// before mu and never waited for under another lock.
	reading sync.Mutex
	run     resumption
	message Message
	headers [8]Header
	idBuf   []byte
	values  []byte
	subject []byte
	stamp   stamp

	mu            sync.Mutex
	ring          *ring
	journal       *journal.Journal
	waiting       int    // messages that are not settled
	pending       int    // those of them at QoS 0
	bufferedBytes int    // bytes of messages that are not settled
	qos0          uint64 // number of the latest QoS 0 message, for its id
	away          int64  // since when there is no connection, ns; 0: there is one
	conn          Conn
	epoch         uint32 // number of the present connection
	acking        bool   // PUBACKs were appended on it
	fenced        uint64 // the broker has handled PUBACKs before this position
	pendingAcks   *pendingAcks
	acked         int // PUBACKs appended since the lane last wrote them out
	catchUp       limit.CatchUp
	counts        Counts
	ranAt         int64         // when the process last showed that it runs, ns
	stopped       bool          // it was stopped, and the connection may not have survived that
	calm          int           // ticks of the connection since then
	idle          chan struct{} // closed when the ring is empty; nil: not requested
	ready         chan struct{} // closed when deliveries may continue; nil: they may

	spans map[uint64]*Span // of sampled messages that are not settled, by token
}

// NewLane creates a lane. Start must be called before its session is opened.
func NewLane(opts LaneOptions) (*Lane, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	return &Lane{
		opts:        opts,
		ranAt:       opts.Now(),
		validator:   newValidator(&opts),
		ring:        newRing(),
		pendingAcks: newPendingAcks(),
		journal:     opts.Journal,
		qos0:        uint64(opts.Now()),
		away:        opts.Journal.Alive(),
		catchUp:     limit.NewCatchUp(opts.Tenants),
		spans:       map[uint64]*Span{},
	}, nil
}

// Start gives the lane its publisher.
func (l *Lane) Start(p Publisher) { l.publisher = p }

// Connected implements [Receiver].
func (l *Lane) Connected(c Conn, sessionPresent bool) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opts.Now()
	l.awake(now)
	if sessionPresent && l.opts.Rules.Attested == nil {
		outage := limit.UnknownOutage
		if l.away > 0 {
			outage = now - l.away
		}
		l.catchUp.Grant(now, outage)
	}
	if sessionPresent {
		if l.stopped || now-l.away > maxAbsence {
			l.journal.SetUnsure()
		}
		l.run.begin(beginning, l.journal.Unsure())
	} else {
		// The broker numbers its packets anew: packet ids and contents of the
		// lost session prove nothing.
		l.journal.Forget()
		l.run.begin(beginning, false)
	}
	l.away, l.conn = 0, c
	l.stopped, l.acking, l.fenced = false, false, 0
	l.epoch++
	l.pendingAcks.head = l.pendingAcks.tail
	l.journal.Beat(now, true)
}

// Disconnected implements [Receiver].
func (l *Lane) Disconnected(c Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake(l.opts.Now())
	if l.conn == c {
		l.conn, l.away = nil, l.opts.Now()
		l.pendingAcks.head = l.pendingAcks.tail // unacknowledged messages are redelivered
	}
}

// Deliver implements [Receiver]. A message is validated, gets its id and a slot in the
// ring, and is published. Its PUBACK follows after Settle.
func (l *Lane) Deliver(c Conn, d *Delivery) {
	l.reading.Lock()
	defer l.reading.Unlock()
	hash := l.hash(d)
	if d.QoS > 0 && (d.Dup || l.run.phase != settled) && l.redelivered(c, d, hash) {
		return
	}
	l.deliver(c, d, hash, known{})
}

// redelivered handles a delivery that can be the same as an earlier one, and returns
// whether it is done with it. DUP alone proves nothing: the broker may have sent the
// message into a connection that ended before it arrived, and some brokers pass on the
// device's flag.
func (l *Lane) redelivered(c Conn, d *Delivery, hash uint64) bool {
	l.mu.Lock()
	if d.Dup {
		l.counts.Redelivered++
	}
	pending := d.Dup && l.pendingAcks.contains(d.PacketID, hash)
	position, token, crossed := uint64(0), uint64(0), false
	if !pending && d.Dup && l.run.phase == settled {
		if position, crossed = l.journal.SentAgain(d.PacketID, hash); crossed {
			token = l.ring.tokenOf(position)
		}
	}
	l.mu.Unlock()
	switch {
	case pending:
		return true
	case crossed:
		l.again(c, d, hash, position, token)
		return true
	}
	return l.run.phase != settled && l.resume(c, d, hash)
}

// deliver handles a message that is new, or that is known and may not be stored.
func (l *Lane) deliver(c Conn, d *Delivery, hash uint64, k known) {
	if d.Retain && !l.opts.Rules.ForwardRetained {
		l.skipRetained(c, d, hash)
		return
	}
	v := l.validator
	v.read(d)
	if k.position == 0 {
		v.charge(l.credit(d.ReceivedAt))
	}
	store := true
	if v.reason != verdict.Accepted {
		within := v.reported(d)
		store = (within || v.reason == verdict.NotSubscribed) && l.opts.Rules.Quarantine
	}
	token, number, ok := l.enter(c, d, hash, k, store)
	if !ok {
		return
	}
	l.message.Token, l.message.OrderKey, l.message.PacketID = token, v.sender.Hash, d.PacketID
	if v.reason == verdict.Accepted {
		l.accepted(d, number)
	} else {
		l.quarantined(d, number)
	}
	if l.opts.Tracing != nil {
		l.trace(d, token)
	}
	if k.position > 0 && l.message.FirstAttempt == 0 { // an earlier process may have sent it
		l.message.FirstAttempt = journal.NumberedAt(k.number)
	}
	l.publisher.Publish(&l.message)
}

// hash hashes what identifies a message: the topic, which contains the broker's id on
// attested topics, and on plain topics the payload as well.
func (l *Lane) hash(d *Delivery) uint64 {
	h := xxhash.Sum64(d.Topic)
	if l.opts.Rules.Attested == nil {
		h = h*0x9e3779b97f4a7c15 ^ xxhash.Sum64(d.Payload)
		if d.Retain {
			h = ^h // a retained copy is handled differently
		}
	}
	return h
}

// enter gives a validated delivery its number and its slot in the ring. ok is false if
// there is nothing to publish.
func (l *Lane) enter(c Conn, d *Delivery, hash uint64, k known, store bool) (token, number uint64, ok bool) {
	v := l.validator
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Received++
	l.counts.ReceivedBytes += uint64(d.PayloadSize)
	s := slot{
		received: d.ReceivedAt, sender: v.sender, reason: v.reason, position: k.position,
		size:    len(d.Topic) + len(d.Payload),
		wrapped: v.reason == verdict.Accepted && l.opts.Rules.format(v.route) == Envelope,
	}
	if v.reason != verdict.Accepted {
		l.counts.Rejected[v.reason]++
		if !store {
			l.counts.QuarantineSkipped++
		}
	}
	if d.QoS == 0 {
		if !store {
			return 0, 0, false // it has no PUBACK
		}
		if l.pending >= l.opts.QoS0Pending || l.bufferedBytes >= l.opts.MaxBytes/2 {
			l.counts.QoS0Dropped++
			return 0, 0, false
		}
		l.qos0++
		l.pending++
		number = l.qos0
	} else {
		number = k.number
		if k.position == 0 {
			s.position, number = l.journal.Append(d.PacketID, hash, d.ReceivedAt)
		}
	}
	l.waiting++
	l.bufferedBytes += s.size
	token = l.ring.push(s)
	if !store {
		l.markSettled(l.ring.at(token))
	}
	if d.QoS > 0 {
		l.queueAck(c, pendingAck{token, s.position, hash, d.PacketID})
	}
	if !store {
		l.advance()
	}
	return token, number, store
}

// queueAck schedules one PUBACK for the slot on connection c. A second PUBACK could
// acknowledge the next message that reuses the packet id.
func (l *Lane) queueAck(c Conn, b pendingAck) {
	if c != l.conn {
		return
	}
	if s := l.ring.get(b.token); s != nil {
		if s.epoch == l.epoch {
			return
		}
		s.epoch = l.epoch
	}
	l.pendingAcks.push(b)
}

// skipRetained acknowledges a retained copy without storing it: it was sent
// because the bridge subscribed, not because a device published.
func (l *Lane) skipRetained(c Conn, d *Delivery, hash uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.RetainedSkipped++
	if d.QoS > 0 {
		// It used up a packet id and may be redelivered like any other.
		position, _ := l.journal.Append(d.PacketID, hash, d.ReceivedAt)
		l.journal.MarkStored(position)
		l.queueAck(c, pendingAck{0, position, hash, d.PacketID})
		l.advance()
	}
}

// credit returns how far back a device's budget reaches now, in ns.
func (l *Lane) credit(now int64) int64 {
	if l.opts.Rules.Attested != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.catchUp.Arrives(now, l.ring.len() > 0)
	return l.catchUp.Credit(now)
}

// Tick must be called about once per second. It records in the journal that the process
// runs and the broker is connected, so that after a crash the length of the outage is known.
// It also detects that a lane without messages has caught up, and ends the wait for
// redeliveries that do not come.
func (l *Lane) Tick() {
	l.mu.Lock()
	now := l.opts.Now()
	l.awake(now)
	if l.stopped && l.conn != nil && l.bufferFill() < 1 {
		// If the connection had ended in that time, the end would have been read by now.
		l.calm++
		l.stopped = l.calm < calmTicks
	}
	l.journal.Beat(now, l.conn != nil)
	l.fence()
	l.catchUp.Tick(now, l.conn == nil || l.ring.len() > 0)
	l.mu.Unlock()
	l.probe()
}

// fence asks the broker to confirm that it has handled the PUBACKs: then none of these
// messages can be redelivered. Attested topics need no such proof.
func (l *Lane) fence() {
	f, ok := l.conn.(Fencer)
	if mark := l.journal.Acked(); ok && l.acking && mark > l.fenced && l.opts.Rules.Attested == nil {
		f.Fence(mark)
	}
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

// appendID appends the message id: the broker's on attested topics, else client id and
// number. An id is never derived from the content alone: devices honestly send the same
// bytes twice.
func (l *Lane) appendID(dst []byte, d *Delivery, number uint64) []byte {
	if id := l.validator.attested.ID; id != nil {
		return append(dst, id...)
	}
	dst = append(dst, l.opts.Name...)
	dst = append(dst, '-')
	if d.QoS == 0 {
		dst = append(dst, "0-"...)
	}
	return strconv.AppendUint(dst, number, 36)
}
