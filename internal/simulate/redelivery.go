package simulate

import (
	"slices"
	"time"
)

// excuse allows messages in flight to be stored twice if no rule can detect the redeliveries of a
// new connection. bridge/DESIGN.md lists the cases.
func (b *broker) excuse() {
	if len(b.inFlight) == 0 || b.w.setup.Attested {
		return
	}
	first := b.inFlight[0]
	vain := first.puback // its PUBACK was sent and did not arrive
	switch {
	case b.stopped, time.Since(b.seen) > 55*time.Second:
		// Another process may have had the session. The first message that is not recognised as
		// redelivered starts a new numbering without a known predecessor.
		b.stopped, b.unproved = true, true
	case b.crossed: // the latest packet may be one that the broker knows to be acknowledged
		b.crossed = false
	case b.w.setup.Anew && vain:
	case vain && (first.id == 1 || first.first): // a broker that restarts its packet ids begins with 1
	default:
		return
	}
	b.forgive()
}

// forgive allows all messages in flight to be stored twice.
func (b *broker) forgive() {
	for _, p := range b.inFlight {
		p.excused = true
	}
}

// skip simulates a full queue: dropped messages use up packet ids until one of the latest ids is
// used again. That takes some time, in which the broker answers a ping.
func (b *broker) skip(which int) {
	w := b.w
	if !b.up() || w.process == nil || w.setup.Anew || len(b.recent) == 0 {
		return
	}
	calm := 0 // seconds without an unacknowledged message
	for range 9 {
		if calm++; len(b.inFlight)+len(b.pipe) > 0 || w.process.lane.Counts().InFlight > 0 {
			calm = 0
		}
		w.read(len(b.pipe))
		if !w.server.Faulty() {
			w.settleAll()
		}
		if w.process == nil || b.conn == nil {
			return
		}
		b.conn.Flush()
		b.takeAcks(packetIDs)
		w.sleep(time.Second)
	}
	if w.process == nil || !b.up() || len(b.inFlight)+len(b.pipe) > 0 || w.process.lane.Counts().InFlight > 0 || calm < 3 {
		return
	}
	b.nextID = b.recent[len(b.recent)-1-which%min(len(b.recent), 3)]
	b.unproved = true
	w.logf("the broker drops messages; the next packet is %d", b.nextID)
}

func (b *broker) save() {
	kept := slices.DeleteFunc(slices.Clone(b.queue), func(l *letter) bool { return l.qos == 0 })
	b.saved = &session{kept, slices.Clone(b.inFlight), b.nextID}
	b.w.logf("the broker saves its state")
}

// restore rolls the broker back to an older snapshot. Messages after the snapshot are lost, and
// those acknowledged since are sent again. The first connection gets as far as a message that is
// new to the broker and has no DUP; otherwise the bridge could not detect the rollback. If asked is
// true, the broker first answers the bridge's ping.
func (b *broker) restore(asked bool) {
	w := b.w
	if b.saved == nil || w.process == nil || w.setup.Retained {
		return
	}
	b.cut(0, 0)
	if b.conn != nil {
		w.process.lane.Disconnected(b.conn)
		b.disconnected()
	}
	for _, l := range b.messages() {
		l.lost = true
	}
	w.disordered = true
	for _, l := range b.saved.messages() {
		l.lost, l.other = false, true
	}
	b.session = session{slices.Clone(b.saved.queue), slices.Clone(b.saved.inFlight), b.saved.nextID}
	b.unproved = true
	w.logf("the broker is rolled back to its snapshot: %d in flight, %d queued, next packet %d", len(b.inFlight), len(b.queue), b.nextID)
	b.connect()
	if b.conn == nil {
		return
	}
	w.read(len(b.pipe))
	w.sleep(10 * time.Second)
	if asked {
		b.takeAcks(packetIDs)
		w.read(len(b.pipe))
		b.crossed = true // an interrupted redelivery does not reach the latest packet
	}
	if w.process == nil || !b.up() {
		return
	}
	news := w.letter(0, plain, 0)
	news.dup = false
	b.queue = append([]*letter{news}, b.queue...)
	if window := w.setup.Window; len(b.inFlight) >= window {
		w.setup.Window = len(b.inFlight) + 1
		defer func() { w.setup.Window = window }()
	}
	b.send(1)
	w.read(len(b.pipe))
}

// elsewhere suspends the process while another one uses the session, until packet ids have wrapped
// around. The other process leaves some messages in flight.
func (b *broker) elsewhere(left, served int) {
	w := b.w
	if b.conn == nil || w.process == nil || w.setup.Attested || w.setup.Retained {
		return
	}
	w.logf("the process is suspended, another one has the session")
	b.cut(0, packetIDs)
	w.disordered, b.stopped = true, true
	w.still = true
	w.sleep(10 * time.Second)
	w.still = false
	// The other process received the messages in flight and stored them under its own ids.
	for _, p := range b.inFlight {
		p.other = true
	}
	b.inFlight = nil
	if len(b.recent) > 0 && !w.setup.Anew {
		b.nextID = b.recent[served%len(b.recent)]
	}
	b.unproved = true
	for range left {
		l := w.letter(left, plain, 0)
		b.sent++
		l.sent = b.sent
		b.inFlight = append(b.inFlight, packet{id: b.id(), letter: l})
	}
	w.logf("%d messages are left in flight, the next packet is %d", left, b.nextID)
	w.process.lane.Disconnected(b.conn)
	b.disconnected()
}

// delivered records a QoS 1 packet that the bridge reads.
func (b *broker) delivered(c *conn, p packet) {
	if b.unproved {
		p.first, b.unproved = true, false
	}
	if c.answered[p.letter] { // it crossed its PUBACK
		p.excused, b.crossed = true, true
	}
	if c.resumes > 0 && p.dup {
		c.resumes--
	} else if c.resumes = 0; !c.cut { // a connection that a suspension has cut proves nothing
		b.stopped = false
	}
}

// tick calls Lane.Tick, once per second.
func (w *world) tick() {
	p, c := w.process, w.broker.conn
	if p == nil || w.still && !w.sabotage.missesSuspension {
		return
	}
	if c != nil {
		w.broker.seen = time.Now()
	}
	p.lane.Tick()
}

// judgeCounted checks a PUBACK for a message that is not stored. If a check rejects the message, it
// may have been counted instead; the lane reports the number of such messages.
func (w *world) judgeCounted(l *letter) {
	skipped := w.skipped
	if w.process != nil {
		skipped += w.process.skips()
	}
	if l.expects && skipped > w.counted {
		w.counted++
		w.count(l)
	}
}

// skips returns the number of messages that a process has counted instead of storing them.
func (p *process) skips() uint64 {
	c := p.lane.Counts()
	return c.RetainedSkipped + c.QuarantineSkipped
}

// stored reports whether the broker may forget a message. Either it is stored, or no rule can
// distinguish it from redeliveries of others; then it is enough that as many messages of its class
// are stored as were acknowledged.
func (w *world) stored(l *letter, counts func(*letter) bool) bool {
	if w.safe(l) || l.other {
		return true
	}
	if w.setup.Attested || !w.setup.Anew && !l.excused {
		return false
	}
	copies, needed := 0, 0
	for _, o := range w.letters {
		if o.topic != l.topic || o.payload != l.payload || o.retain != l.retain || o.qos == 0 || o.other || o.lost {
			continue
		}
		for _, c := range w.copies(o) {
			if c.Safe {
				copies++
			}
		}
		if o == l || counts(o) {
			needed++
		}
	}
	return copies >= needed
}
