package bridge

import (
	"bytes"
	"time"

	"mqtt-nats-bridge/bridge/journal"
)

// resumption is the state of a connection until it is known which of its first deliveries
// are redelivered. DESIGN.md, "Redelivery", has the rules and their proof. Protected by the
// lane's reading lock.
type resumption struct {
	phase  phase
	unsure bool // recurring content proves nothing

	// In the phase following: the deliveries so far, and which of the lane's latest
	// deliveries they can be. Their PUBACKs are withheld.
	deliveries []Delivery
	hashes     []uint64
	index      map[uint16]int // by packet id
	bytes      int
	kept       uint64 // position where a run with kept packet ids would begin; 0: none
	anew       bool   // the broker may number anew on each connection
	byRun      uint64 // position where the run would then begin; 0: not known, or none
	quiet      int    // ticks since the latest delivery
	next       uint64 // in the phase continuing: the position of the next delivery
	unique     bool   // and contents do not recur from there on
	asked      int    // the number of deliveries when the broker was asked for more

	// On attested topics: the latest deliveries by content, and the slots of those
	// that were not settled when the connection began.
	positions map[uint64]uint64
	tokens    map[uint64]uint64
}

// phase is how much is known about the redeliveries of a connection.
type phase int

const (
	settled    phase = iota // all further deliveries are new
	beginning               // nothing was delivered yet
	following               // the deliveries so far can be the beginning of a run
	continuing              // they are, and the broker's window has cut the run short
)

const (
	// maxAbsence is how long a lane may be disconnected, and maxStop how long the process
	// may be stopped, before another process may have served the session long enough for
	// a coincidence. Beyond it recurring content proves nothing.
	maxAbsence = int64(time.Minute)
	maxStop    = int64(5 * time.Second)
	// calmTicks is the number of ticks after which a connection that is read from has
	// survived a stop of the process, and after which an incomplete run does not continue
	// if the broker cannot be asked.
	calmTicks = 5
	// askTicks is the number of ticks without a delivery after which it is asked.
	askTicks = 2
	// runMark is the mark of that fence. It is greater than all positions.
	runMark = ^uint64(0)
)

// begin resets r for a new connection.
func (r *resumption) begin(p phase, unsure bool) { *r = resumption{phase: p, unsure: unsure} }

// resume handles a QoS 1 delivery of a connection that may still redeliver. It returns
// whether it is done with it.
func (l *Lane) resume(c Conn, d *Delivery, hash uint64) bool {
	r := &l.run
	if l.opts.Rules.Attested != nil {
		return l.resumeAttested(c, d, hash)
	}
	if r.phase == continuing {
		return l.goOn(c, d, hash)
	}
	if r.phase == beginning && !(d.Dup && l.follow(d, hash)) {
		l.endRun(d.PacketID)
		return false
	}
	if !d.Dup {
		l.decide(c, false)
		return false
	}
	if i, ok := r.index[d.PacketID]; ok && r.hashes[i] == hash {
		return true // sent again on this connection, not acknowledged yet
	}
	r.index[d.PacketID] = len(r.deliveries)
	kept := *d
	kept.Topic, kept.Payload = bytes.Clone(d.Topic), bytes.Clone(d.Payload)
	r.deliveries, r.hashes = append(r.deliveries, kept), append(r.hashes, hash)
	r.bytes += len(d.Topic) + len(d.Payload)
	r.quiet = 0
	if l.compareLatest() || r.bytes > 2*l.opts.MaxBytes {
		l.decide(c, false)
	}
	return true
}

// follow decides by the first delivery whether a connection can begin with a run of
// redeliveries.
func (l *Lane) follow(d *Delivery, hash uint64) bool {
	r, j := &l.run, l.journal
	l.mu.Lock()
	defer l.mu.Unlock()
	if j.Low() == j.End() {
		return false
	}
	if pos, ok := j.StartByID(d.PacketID, hash); ok {
		r.kept = pos
	}
	// Content alone cannot distinguish messages of another process from ours.
	r.anew = !r.unsure && j.Unacked() < j.End() && j.MayRenumber(d.PacketID)
	if r.kept == 0 && !r.anew {
		return false
	}
	r.phase, r.index = following, make(map[uint16]int)
	return true
}

// compareLatest compares the latest delivery, and returns whether the run is decided.
func (l *Lane) compareLatest() bool {
	r, j := &l.run, l.journal
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(len(r.deliveries))
	if r.kept > 0 {
		pos := r.kept + n - 1
		if j.PacketID(pos) != r.deliveries[n-1].PacketID || !j.SameContent(pos, r.hashes[n-1]) {
			r.kept = 0
		} else if pos == j.End()-1 {
			return true
		}
	}
	if r.anew && r.byRun == 0 && n >= j.End()-j.Unacked() {
		// The first match is the latest position: then no more is taken for redelivered
		// than is.
		if j.SameRun(r.hashes) {
			r.byRun = j.End() - n
		}
		r.anew = n < j.End()-j.Low()
	}
	return r.kept == 0 && (r.byRun > 0 || !r.anew)
}

// decide ends the run: deliveries that are proven to be redelivered keep their message ids,
// all others are stored as new.
//
// cut means that the broker sends no more before it gets PUBACKs: mosquitto up to 2.0.18 has
// more in flight than its window, and after a restart sends one window. Then an incomplete
// run that keeps its packet ids counts, if a message waits that must come before anything
// new, or if contents do not recur.
func (l *Lane) decide(c Conn, cut bool) {
	r, j := &l.run, l.journal
	l.mu.Lock()
	from, n, ids := uint64(0), 0, []uint16(nil)
	short := r.kept > 0 && r.kept+uint64(len(r.deliveries)) < j.End() && cut && (j.Unacked() < j.End() || j.Distinct(r.kept))
	if r.kept > 0 && (short || r.kept+uint64(len(r.deliveries)) == j.End()) {
		from = r.kept
	} else if r.byRun > 0 {
		from, ids = r.byRun, []uint16{}
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
	r.begin(settled, false)
	if from > 0 && short {
		r.phase, r.next, r.unique, r.tokens = continuing, from+uint64(n), unique, tokens
	}
	for i := range pending {
		if i < n {
			l.again(c, &pending[i], hashes[i], from+uint64(i), tokens[from+uint64(i)])
		} else {
			l.deliver(c, &pending[i], hashes[i], known{})
		}
	}
}

// goOn handles a delivery that may be the next of a run that was cut short. Without DUP it
// counts only if contents do not recur: a broker that was set back gives the packet ids of
// messages that it has forgotten to new ones.
func (l *Lane) goOn(c Conn, d *Delivery, hash uint64) bool {
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
		r.phase = settled
	}
	l.again(c, d, hash, pos, r.tokens[pos])
	return true
}

// endRun records that nothing more is redelivered on this connection. packetID is that of
// its first delivery.
func (l *Lane) endRun(packetID uint16) {
	l.run.phase, l.run.positions, l.run.tokens = settled, nil, nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journal.Settle(packetID, l.opts.Rules.Attested != nil)
}

// known is the journal's entry of a redelivered message; zero: it is new.
type known struct{ position, number uint64 }

// again handles a redelivery of the message at a position; token is that of its slot if it
// is not settled.
func (l *Lane) again(c Conn, d *Delivery, hash, position, token uint64) {
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
	l.deliver(c, d, hash, known{position, number})
}

// resumeAttested is resume for attested topics, which contain the broker's id: equal content
// is proof, whatever the packet id, with or without DUP (EMQX omits it if a session was taken
// over while attached).
func (l *Lane) resumeAttested(c Conn, d *Delivery, hash uint64) bool {
	r := &l.run
	l.mu.Lock()
	if r.phase == beginning && (d.Dup || l.journal.Contains(hash)) {
		r.phase, r.positions, r.tokens = following, l.journal.ByContent(), l.ring.tokens()
	}
	l.mu.Unlock()
	position, ok := r.positions[hash&journal.ContentMask]
	if ok {
		delete(r.positions, hash&journal.ContentMask)
		l.again(c, d, hash, position, r.tokens[position])
	} else if !d.Dup {
		l.endRun(d.PacketID)
	}
	return ok
}

// probe is called by Tick. A connection that delivers nothing redelivers nothing. An
// incomplete run that does not continue must be decided, because the broker may be waiting
// for its PUBACKs. Redeliveries come before the broker's answer to a fence.
func (l *Lane) probe() {
	if !l.reading.TryLock() {
		return // something is being delivered
	}
	defer l.reading.Unlock()
	r := &l.run
	if r.phase == settled || r.phase == continuing || l.opts.Rules.Attested != nil {
		return
	}
	l.mu.Lock()
	c, paused, doubt := l.conn, l.bufferFill() >= 1, l.journal.Low() < l.journal.End()
	l.mu.Unlock()
	if c == nil || paused || !doubt {
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
	if r.phase == following && r.quiet >= calmTicks {
		l.decide(c, true)
		l.SettleDone()
	}
}

// Confirmed implements [Confirmer].
func (l *Lane) Confirmed(c Conn, mark uint64) {
	l.reading.Lock()
	defer l.reading.Unlock()
	r := &l.run
	if mark == runMark && r.phase == following {
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
	case r.phase == beginning:
		l.journal.MarkConfirmed(l.journal.End())
	}
}

// awake is called whenever the process shows that it runs. A gap means that it was stopped:
// another process may have had the session.
func (l *Lane) awake(now int64) {
	if now-l.ranAt > maxStop {
		l.stopped, l.calm = true, 0
	}
	l.ranAt = now
}
