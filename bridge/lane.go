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

// LaneOptions configure a lane. Name, Rules, Limits, Devices and Tenants are required.
type LaneOptions struct {
	// Name is the client id of the lane's MQTT session and the prefix of the message ids that the
	// lane assigns.
	Name    string
	Rules   *Rules
	Limits  *limit.Live // shared by all lanes, as are Devices and Tenants
	Devices *limit.Budgets
	Tenants *limit.Budgets
	// Journal distinguishes redeliveries from new messages. If nil, the lane uses a journal in
	// memory. The caller closes it.
	Journal *journal.Journal
	// QoS0Pending bounds the QoS 0 messages waiting for JetStream. Messages beyond it are counted
	// and dropped: QoS 0 is at-most-once. 0 means 10,000.
	QoS0Pending int
	// MaxBytes bounds the messages waiting for JetStream, in bytes. At this bound the connection
	// pauses; QoS 0 messages are dropped from half of it on. 0 means 32 MiB.
	MaxBytes int
	// Tracing adds a trace context to messages; nil disables it.
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

// Lane is the unit of parallelism: one MQTT session, one ring, one publisher. It is the [Receiver]
// of the session and the [Settler] of the publisher.
//
// A QoS 1 delivery is acknowledged only after JetStream has stored it or its quarantine copy. The
// PUBACK goes to the connection that delivered the message, in order of delivery (MQTT-4.6.0-2).
// Messages are published in order of delivery.
type Lane struct {
	opts      LaneOptions
	validator *validator
	publisher Publisher

	// reading is locked during a delivery and protects the fields up to mu. It is locked before mu
	// and never under another lock of the lane.
	reading sync.Mutex
	run     resumption
	message Message
	headers [8]Header
	idBuf   []byte
	values  []byte
	subject []byte
	stamp   stamp

	mu               sync.Mutex
	ring             ring
	journal          *journal.Journal
	unsettled        int    // messages not settled
	unsettledQoS0    int    // of these, at QoS 0
	bufferedBytes    int    // bytes of messages not settled
	qos0             uint64 // number of the latest QoS 0 message, used in its id
	offlineSince     int64  // when the connection was lost, ns since the epoch; 0: connected
	conn             Conn
	epoch            uint32 // counts connections
	acking           bool   // a PUBACK was appended on the current connection
	fenced           uint64 // the broker has handled the PUBACKs before this position
	pendingAcks      *pendingAcks
	acked            int // PUBACKs appended since the last flush
	catchUp          limit.CatchUp
	counts           Counts
	lastRun          int64         // when the process was last known to run, ns
	suspended        bool          // the process was suspended; the connection may not have survived
	ticksSinceResume int           // ticks of the connection since then
	idle             chan struct{} // closed when the ring is empty; nil: no waiter
	ready            chan struct{} // closed when deliveries may continue; nil: not paused

	spans map[uint64]*Span // of sampled messages not settled, by token
}

// NewLane creates a lane. Start must be called before the session is opened.
func NewLane(opts LaneOptions) (*Lane, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	return &Lane{
		opts:         opts,
		lastRun:      opts.Now(),
		validator:    newValidator(&opts),
		ring:         ring{newQueue[slot]()},
		pendingAcks:  &pendingAcks{queue: newQueue[pendingAck]()},
		journal:      opts.Journal,
		qos0:         uint64(opts.Now()),
		offlineSince: opts.Journal.Alive(),
		catchUp:      limit.NewCatchUp(opts.Tenants),
		spans:        map[uint64]*Span{},
	}, nil
}

// Start sets the lane's publisher.
func (l *Lane) Start(p Publisher) { l.publisher = p }

// Connected implements [Receiver].
func (l *Lane) Connected(c Conn, sessionPresent bool) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opts.Now()
	l.recordRunning(now)
	if sessionPresent && l.opts.Rules.Attested == nil {
		outage := limit.UnknownOutage
		if l.offlineSince > 0 {
			outage = now - l.offlineSince
		}
		l.catchUp.Grant(now, outage)
	}
	if sessionPresent {
		if l.suspended || now-l.offlineSince > maxOffline {
			l.journal.SetUnsure()
		}
		l.run.reset(initial, l.journal.Unsure())
	} else {
		// The broker assigns packet ids from scratch: those of the lost session prove nothing.
		l.journal.Forget()
		l.run.reset(initial, false)
	}
	l.offlineSince, l.conn = 0, c
	l.suspended, l.acking, l.fenced = false, false, 0
	l.epoch++
	l.pendingAcks.head = l.pendingAcks.tail
	l.journal.Beat(now, true)
}

// Disconnected implements [Receiver].
func (l *Lane) Disconnected(c Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recordRunning(l.opts.Now())
	if l.conn == c {
		l.conn, l.offlineSince = nil, l.opts.Now()
		l.pendingAcks.head = l.pendingAcks.tail // unacknowledged messages are redelivered
	}
}

// Deliver implements [Receiver]. It validates the message, assigns its id and its slot in the ring,
// and publishes it. The PUBACK follows after Settle.
func (l *Lane) Deliver(c Conn, d *Delivery) {
	l.reading.Lock()
	defer l.reading.Unlock()
	hash := l.hash(d)
	if d.QoS > 0 && (d.Dup || l.run.phase != resolved) && l.redelivered(c, d, hash) {
		return
	}
	l.deliver(c, d, hash, journaled{})
}

// redelivered handles a delivery that may repeat an earlier one, and reports whether it is fully
// handled. DUP alone proves nothing: the broker may have sent the message on a connection that
// closed before it arrived, and some brokers pass on the publishing device's flag.
func (l *Lane) redelivered(c Conn, d *Delivery, hash uint64) bool {
	l.mu.Lock()
	if d.Dup {
		l.counts.Redelivered++
	}
	pending := d.Dup && l.pendingAcks.contains(d.PacketID, hash)
	position, token, crossed := uint64(0), uint64(0), false
	if !pending && d.Dup && l.run.phase == resolved {
		if position, crossed = l.journal.SentAgain(d.PacketID, hash); crossed {
			token = l.ring.tokenOf(position)
		}
	}
	l.mu.Unlock()
	switch {
	case pending:
		return true
	case crossed:
		l.handleRedelivery(c, d, hash, position, token)
		return true
	}
	return l.run.phase != resolved && l.resume(c, d, hash)
}

// deliver handles a message that is new, or that the journal lists but may not be stored.
func (l *Lane) deliver(c Conn, d *Delivery, hash uint64, k journaled) {
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
		admitted := v.chargeQuarantine(d)
		store = (admitted || v.reason == verdict.NotSubscribed) && l.opts.Rules.Quarantine
	}
	token, number, ok := l.enter(c, d, hash, k, store)
	if !ok {
		return
	}
	l.message.Token, l.message.OrderKey, l.message.PacketID = token, v.sender.Hash, d.PacketID
	if v.reason == verdict.Accepted {
		l.fillAccepted(d, number)
	} else {
		l.fillQuarantined(d, number)
	}
	if l.opts.Tracing != nil {
		l.trace(d, token)
	}
	if k.position > 0 && l.message.FirstAttempt == 0 { // an earlier process may have sent it
		l.message.FirstAttempt = journal.NumberedAt(k.number)
	}
	l.publisher.Publish(&l.message)
}

// hash identifies a message. An attested topic contains the broker's message id and suffices; on
// plain topics the payload is hashed as well.
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

// enter assigns a validated delivery its number and its slot in the ring. ok is false if there is
// nothing to publish.
func (l *Lane) enter(c Conn, d *Delivery, hash uint64, k journaled, store bool) (token, number uint64, ok bool) {
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
			return 0, 0, false // QoS 0 has no PUBACK
		}
		if l.unsettledQoS0 >= l.opts.QoS0Pending || l.bufferedBytes >= l.opts.MaxBytes/2 {
			l.counts.QoS0Dropped++
			return 0, 0, false
		}
		l.qos0++
		l.unsettledQoS0++
		number = l.qos0
	} else {
		number = k.number
		if k.position == 0 {
			s.position, number = l.journal.Append(d.PacketID, hash, d.ReceivedAt)
		}
	}
	l.unsettled++
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

// skipRetained acknowledges a retained copy without storing it. The broker sent it because the
// bridge subscribed, not because a device published.
func (l *Lane) skipRetained(c Conn, d *Delivery, hash uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.RetainedSkipped++
	if d.QoS > 0 {
		// The copy used a packet id and may be redelivered like any other message.
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

// Tick must be called about once per second. It records in the journal that the process runs and
// the broker is connected, so the length of an outage is known after a crash. It also detects that
// an idle lane has caught up, and ends the wait for redeliveries that do not arrive.
func (l *Lane) Tick() {
	l.mu.Lock()
	now := l.opts.Now()
	l.recordRunning(now)
	if l.suspended && l.conn != nil && l.bufferFill() < 1 {
		// If the connection had closed during the suspension, that would have been read by now.
		l.ticksSinceResume++
		l.suspended = l.ticksSinceResume < settleTicks
	}
	l.journal.Beat(now, l.conn != nil)
	l.fence()
	l.catchUp.Tick(now, l.conn == nil || l.ring.len() > 0)
	l.mu.Unlock()
	l.probe()
}

// fence asks the broker to confirm that it has handled the PUBACKs. After that none of these
// messages can be redelivered. Attested topics do not need this proof.
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

// appendID appends the message id: the broker's on attested topics, otherwise client id and number.
// An id is never derived from content alone, because a device may legitimately send the same bytes
// twice.
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
