package bridge

import (
	"bytes"
	"time"

	"mqtt-nats-bridge/bridge/journal"
)

// resumption is the state of a connection whose first deliveries may be redeliveries. DESIGN.md,
// "Redelivery", has the rules and their proof. It is protected by the lane's reading lock.
type resumption struct {
	phase  phase
	unsure bool // repeated content proves nothing

	// Used in phase collecting: the deliveries so far, and the journal positions at which their run
	// may begin. Their PUBACKs are withheld.
	deliveries   []Delivery
	hashes       []uint64
	index        map[uint16]int // by packet id
	bytes        int
	runByID      uint64 // position of the run if the broker keeps packet ids; 0: none
	mayRenumber  bool   // the broker may renumber packets on each connection
	runByContent uint64 // position of the run if it does; 0: unknown, or none
	quiet        int    // ticks since the latest delivery
	next         uint64 // in phase continuing: the position of the next delivery
	unique       bool   // no content repeats from there on
	asked        int    // number of deliveries when the broker was asked for a fence

	// Used on attested topics: journal positions by content, and the slots that were not settled
	// when the connection began.
	positions map[uint64]uint64
	tokens    map[uint64]uint64
}

// phase describes what is known about the redeliveries of a connection.
type phase int

const (
	resolved   phase = iota // all further deliveries are new
	initial                 // nothing delivered yet
	collecting              // the deliveries so far may be the beginning of a run
	continuing              // they are, and the broker's window has cut the run short
)

const (
	// maxOffline bounds how long a lane may be disconnected, and maxSuspension how long the process
	// may be suspended. After a longer gap another process may have used the session, so repeated
	// content proves nothing.
	maxOffline    = int64(time.Minute)
	maxSuspension = int64(5 * time.Second)
	// settleTicks is the number of ticks after which a connection that is read from has survived a
	// suspension. If the broker cannot be asked, it is also the number after which an incomplete
	// run is decided.
	settleTicks = 5
	// askTicks is the number of ticks without a delivery after which the broker is asked for a
	// fence.
	askTicks = 2
	// runMark is the mark of that fence. It is greater than every position.
	runMark = ^uint64(0)
)

// reset prepares r for a new connection.
func (r *resumption) reset(p phase, unsure bool) { *r = resumption{phase: p, unsure: unsure} }

// resume handles a QoS 1 delivery of a connection that may still redeliver. It reports whether the
// delivery is fully handled.
func (l *Lane) resume(c Conn, d *Delivery, hash uint64) bool {
	r := &l.run
	if l.opts.Rules.Attested != nil {
		return l.resumeAttested(c, d, hash)
	}
	if r.phase == continuing {
		return l.continueRun(c, d, hash)
	}
	if r.phase == initial && !(d.Dup && l.startRun(d, hash)) {
		l.endRun(d.PacketID)
		return false
	}
	if !d.Dup {
		l.decide(c, false)
		return false
	}
	if i, ok := r.index[d.PacketID]; ok && r.hashes[i] == hash {
		return true // repeated on this connection, not acknowledged yet
	}
	r.index[d.PacketID] = len(r.deliveries)
	copied := *d
	copied.Topic, copied.Payload = bytes.Clone(d.Topic), bytes.Clone(d.Payload)
	r.deliveries, r.hashes = append(r.deliveries, copied), append(r.hashes, hash)
	r.bytes += len(d.Topic) + len(d.Payload)
	r.quiet = 0
	if l.compareLatest() || r.bytes > 2*l.opts.MaxBytes {
		l.decide(c, false)
	}
	return true
}

// startRun checks whether the first delivery of a connection can begin a run of redeliveries.
func (l *Lane) startRun(d *Delivery, hash uint64) bool {
	r, j := &l.run, l.journal
	l.mu.Lock()
	defer l.mu.Unlock()
	if j.Low() == j.End() {
		return false
	}
	if pos, ok := j.StartByID(d.PacketID, hash); ok {
		r.runByID = pos
	}
	// Content alone cannot distinguish this lane's messages from those of another process.
	r.mayRenumber = !r.unsure && j.Unacked() < j.End() && j.MayRenumber(d.PacketID)
	if r.runByID == 0 && !r.mayRenumber {
		return false
	}
	r.phase, r.index = collecting, make(map[uint16]int)
	return true
}

// compareLatest compares the latest delivery with the journal and reports whether the run is
// decided.
func (l *Lane) compareLatest() bool {
	r, j := &l.run, l.journal
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(len(r.deliveries))
	if r.runByID > 0 {
		pos := r.runByID + n - 1
		if j.PacketID(pos) != r.deliveries[n-1].PacketID || !j.SameContent(pos, r.hashes[n-1]) {
			r.runByID = 0
		} else if pos == j.End()-1 {
			return true
		}
	}
	if r.mayRenumber && r.runByContent == 0 && n >= j.End()-j.Unacked() {
		// The first match is the latest possible position, so no new message is taken for a
		// redelivery.
		if j.SameRun(r.hashes) {
			r.runByContent = j.End() - n
		}
		r.mayRenumber = n < j.End()-j.Low()
	}
	return r.runByID == 0 && (r.runByContent > 0 || !r.mayRenumber)
}

// decide ends the run. Deliveries that are proven redeliveries keep their message ids; all others
// are stored as new.
//
// cut means that the broker sends nothing more before it gets PUBACKs. mosquitto up to 2.0.18 can
// have more in flight than its window, and after a restart it sends one window. In that case an
// incomplete run that keeps its packet ids counts if an unacknowledged message must precede
// everything new, or if no content repeats.
func (l *Lane) decide(c Conn, cut bool) {
	r, j := &l.run, l.journal
	l.mu.Lock()
	from, n, ids := uint64(0), 0, []uint16(nil)
	short := r.runByID > 0 && r.runByID+uint64(len(r.deliveries)) < j.End() && cut && (j.Unacked() < j.End() || j.Distinct(r.runByID))
	if r.runByID > 0 && (short || r.runByID+uint64(len(r.deliveries)) == j.End()) {
		from = r.runByID
	} else if r.runByContent > 0 {
		from, ids = r.runByContent, []uint16{}
	}
	if from > 0 && r.unsure && !j.Distinct(from) {
		from = 0
	}
	var tokens map[uint64]uint64
	unique := false
	if from > 0 {
		n = min(int(j.End()-from), len(r.deliveries))
		for i := 0; ids != nil && i < n; i++ {
			ids = append(ids, r.deliveries[i].PacketID)
		}
		j.Resume(from, ids)
		tokens = l.ring.tokens()
		unique = short && j.Distinct(from+uint64(n))
	}
	l.mu.Unlock()
	if from == 0 {
		l.endRun(r.deliveries[0].PacketID)
	}
	pending, hashes := r.deliveries, r.hashes
	r.reset(resolved, false)
	if from > 0 && short {
		r.phase, r.next, r.unique, r.tokens = continuing, from+uint64(n), unique, tokens
	}
	for i := range pending {
		if i < n {
			l.handleRedelivery(c, &pending[i], hashes[i], from+uint64(i), tokens[from+uint64(i)])
		} else {
			l.deliver(c, &pending[i], hashes[i], journaled{})
		}
	}
}

// continueRun handles a delivery that may continue a run that was cut short. Without DUP it counts
// only if no content repeats: a broker restored to an earlier state reuses the packet ids of
// messages that it has forgotten.
func (l *Lane) continueRun(c Conn, d *Delivery, hash uint64) bool {
	r, j := &l.run, l.journal
	l.mu.Lock()
	pos := r.next
	ok := (d.Dup || r.unique) && pos < j.End() && pos >= j.Oldest() && j.PacketID(pos) == d.PacketID && j.SameContent(pos, hash)
	last := pos+1 == j.End()
	l.mu.Unlock()
	if !ok {
		l.endRun(d.PacketID)
		return false
	}
	if r.next++; last {
		r.phase = resolved
	}
	l.handleRedelivery(c, d, hash, pos, r.tokens[pos])
	return true
}

// endRun records that this connection redelivers nothing more. packetID is that of its first new
// delivery.
func (l *Lane) endRun(packetID uint16) {
	l.run.phase, l.run.positions, l.run.tokens = resolved, nil, nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journal.Settle(packetID, l.opts.Rules.Attested != nil)
}

// journaled refers to the journal entry of a redelivered message; zero: the message is new.
type journaled struct{ position, number uint64 }

// handleRedelivery handles a redelivery of the message at a position. token is that of its slot if
// it is not settled.
func (l *Lane) handleRedelivery(c Conn, d *Delivery, hash, position, token uint64) {
	l.mu.Lock()
	number, stored := l.journal.Find(position)
	if l.ring.get(token) != nil || stored {
		// PUBACKs must go out in the order of the PUBLISHes [MQTT-4.6.0-2].
		l.queueAck(c, pendingAck{token, position, hash, d.PacketID})
		l.advance()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.deliver(c, d, hash, journaled{position, number})
}

// resumeAttested is resume for attested topics. They contain the broker's message id, so equal
// content is proof, whatever the packet id, with or without DUP. EMQX omits DUP if a session was
// taken over while attached.
func (l *Lane) resumeAttested(c Conn, d *Delivery, hash uint64) bool {
	r := &l.run
	l.mu.Lock()
	if r.phase == initial && (d.Dup || l.journal.Contains(hash)) {
		r.phase, r.positions, r.tokens = collecting, l.journal.ByContent(), l.ring.tokens()
	}
	l.mu.Unlock()
	position, ok := r.positions[hash&journal.ContentMask]
	if ok {
		delete(r.positions, hash&journal.ContentMask)
		l.handleRedelivery(c, d, hash, position, r.tokens[position])
	} else if !d.Dup {
		l.endRun(d.PacketID)
	}
	return ok
}

// probe is called by Tick. A connection that delivers nothing redelivers nothing. An incomplete run
// must be decided even if it does not continue, because the broker may be waiting for its PUBACKs.
// Redeliveries arrive before the broker's answer to a fence.
func (l *Lane) probe() {
	if !l.reading.TryLock() {
		return // a delivery is in progress
	}
	defer l.reading.Unlock()
	r := &l.run
	if r.phase == resolved || r.phase == continuing || l.opts.Rules.Attested != nil {
		return
	}
	l.mu.Lock()
	c, paused, mayRedeliver := l.conn, l.bufferFill() >= 1, l.journal.Low() < l.journal.End()
	l.mu.Unlock()
	if c == nil || paused || !mayRedeliver {
		return
	}
	r.quiet++
	if f, ok := c.(Fencer); ok {
		if r.quiet >= askTicks {
			r.asked = len(r.deliveries)
			f.Fence(runMark)
		}
		return
	}
	if r.phase == collecting && r.quiet >= settleTicks {
		l.decide(c, true)
		l.SettleDone()
	}
}

// Confirmed implements [Confirmer].
func (l *Lane) Confirmed(c Conn, mark uint64) {
	l.reading.Lock()
	defer l.reading.Unlock()
	r := &l.run
	if mark == runMark && r.phase == collecting {
		if r.asked == len(r.deliveries) {
			l.decide(c, true)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c != l.conn:
	case mark != runMark:
		l.fenced = mark
		l.journal.MarkConfirmed(mark)
	case r.phase == initial:
		l.journal.MarkConfirmed(l.journal.End())
	}
}

// recordRunning is called whenever the process is known to run. A gap means that it was suspended,
// and another process may have used the session.
func (l *Lane) recordRunning(now int64) {
	if now-l.lastRun > maxSuspension {
		l.suspended, l.ticksSinceResume = true, 0
	}
	l.lastRun = now
}
