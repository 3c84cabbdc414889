package simulate

import (
	"fmt"
	"slices"

	"mqtt-nats-bridge/internal/simulate/jetstream"
)

// promise is a guarantee, named by its violation.
type promise string

const (
	ackedUnstored  promise = "a PUBACK for a message that is not stored"
	storedTwice    promise = "a message is stored twice"
	falseDuplicate promise = "a new message is dropped as a duplicate of another"
	lost           promise = "a message is lost"
	wronglyDropped promise = "a message that passes all checks is dropped"
	ackOrder       promise = "PUBACKs are out of order"
	strayAck       promise = "a PUBACK without a delivery"
	deviceOrder    promise = "a device's messages are stored out of order"
	overtaking     promise = "the lane publishes out of order"
	stuck          promise = "the bridge does not settle all messages"
	badJournal     promise = "a journal does not survive a kill"
	broken         promise = "the run failed"
)

// violation is a guarantee that a run found violated.
type violation struct {
	promise
	detail string
}

func (v *violation) String() string { return fmt.Sprintf("%s: %s", v.promise, v.detail) }

// fail records the first violation.
func (w *world) fail(p promise, format string, args ...any) {
	if w.violation == nil {
		w.violation = &violation{p, fmt.Sprintf(format, args...)}
		w.logf("!!! %v", w.violation)
	}
}

// count records that the lane has counted a message instead of storing it.
func (w *world) count(l *letter) {
	l.counted = true
	if !l.expects {
		w.fail(wronglyDropped, "message %d", l.number)
	}
}

// judgeDropped checks a QoS 0 message that the lane has dropped.
func (w *world) judgeDropped(l *letter) {
	waiting := 0
	for _, o := range w.letters {
		if o != l && o.qos == 0 && o.lifetime == w.lives && o.settled.IsZero() && !o.counted {
			waiting++
		}
	}
	if waiting < w.setup.Pending {
		w.fail(wronglyDropped, "message %d, although only %d of QoS 0 wait", l.number, waiting)
	}
}

// copies returns the copies of a message in the streams.
func (w *world) copies(l *letter) []*jetstream.Copy { return w.server.Copies(l.number) }

// safe reports whether the broker may forget a message.
func (w *world) safe(l *letter) bool {
	return l.counted || slices.ContainsFunc(w.copies(l), func(c *jetstream.Copy) bool { return c.Safe })
}

// judgeAcks checks the PUBACKs of a step against the streams.
func (w *world) judgeAcks() {
	for _, l := range w.acked {
		if !w.safe(l) && !l.other {
			w.judgeCounted(l)
		}
		if !w.stored(l, func(o *letter) bool { return o.puback && !o.counted }) {
			w.fail(ackedUnstored, "message %d", l.number)
		}
	}
	w.acked = w.acked[:0]
}

// judgePublished checks a message that the lane publishes for the first time.
func (w *world) judgePublished(p *process, token uint64, l *letter) {
	if token <= p.lastToken {
		w.fail(overtaking, "slot %d after slot %d", token, p.lastToken)
	}
	p.lastToken = token
	if p.given[l] {
		return // it may be published again: only the number of stored copies matters
	}
	p.given[l] = true
	if l.sent <= p.lastSent && !w.disordered && !l.excused {
		w.fail(overtaking, "message %d, sent as the broker's %d., after its %d.", l.number, l.sent, p.lastSent)
	}
	p.lastSent = max(p.lastSent, l.sent)
}

// judgeStored checks a message that a stream is about to store.
func (w *world) judgeStored(m jetstream.Message, from *jetstream.Client) {
	l := w.letters[m.Number-1]
	if copies := w.copies(l); len(copies) > 0 {
		for _, c := range copies {
			if !w.excused(l, m, c, from.Life) {
				w.fail(storedTwice, "message %d, as %s in %s and as %s in %s", l.number, c.ID, c.Stream, m.ID, m.Stream)
			}
		}
		return
	}
	if m.Stream != jetstream.Main {
		return
	}
	newest := w.newest[l.device]
	switch {
	case newest == nil || newest.sent < l.sent:
		w.newest[l.device] = l
	case w.setup.Ragged && !w.setup.Strict || l.lost || l.excused || newest.excused || w.disordered:
	case w.setup.Limited && l.began != from.Life:
		// The limits were reset: a message that a killed bridge had rejected may pass.
	case l.qos == 0 && from.Dead:
		// A QoS 0 message is not redelivered, and may arrive after its bridge has ended.
	default:
		w.fail(deviceOrder, "message %d, the broker's %d., after message %d, its %d.", l.number, l.sent, newest.number, newest.sent)
	}
}

// judgeDuplicate checks a message that a stream is about to drop as a duplicate of another one.
// Equal messages are interchangeable if one of them is stored already.
func (w *world) judgeDuplicate(m jetstream.Message, of int) {
	l, stored := w.letters[m.Number-1], w.letters[of-1]
	if stored.topic != l.topic || stored.payload != l.payload || !stored.excused && !w.safe(l) {
		w.fail(falseDuplicate, "message %d is dropped as a duplicate of message %d: %s", l.number, of, m.ID)
	}
}

// renew recomputes the newest message of each device after a leader has lost some.
func (w *world) renew() {
	clear(w.newest)
	for _, number := range w.server.Stored() {
		l := w.letters[number-1]
		if n := w.newest[l.device]; n == nil || l.sent > n.sent {
			w.newest[l.device] = l
		}
	}
}

// excused reports whether the design allows a second copy.
func (w *world) excused(l *letter, m jetstream.Message, first *jetstream.Copy, life int) bool {
	killed := life != first.Life
	unknown := l.settled.IsZero() || !m.At.After(l.settled)
	switch {
	case l.excused || l.other:
		return true // no rule can detect the duplicate
	case first.Purged && unknown:
		return true // no stream has its id any more, and the bridge did not know of the copy
	case w.setup.Memory && !w.setup.Attested && killed:
		return true // its id is no longer known
	case w.setup.Limited && killed && m.Subject != first.Subject:
		return true // the limits were reset, and the look-up used another subject
	}
	return false
}
