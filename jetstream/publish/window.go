package publish

import (
	"time"

	"mqtt-nats-bridge/bridge"
)

// maxKeptBuffer is the maximum size of a buffer, in bytes, that an entry keeps for its next
// message.
const maxKeptBuffer = 4 << 10

// entry is one message between Publish and its final answer. Its bytes are in one buffer, which is
// reused for the next message: subject, id, header values, payload.
type entry struct {
	token        uint64
	orderKey     uint64
	buf          []byte
	subject      int32     // end of the subject in buf
	id           int32     // end of the id
	headers      int32     // number of headers
	attempt      uint32    // of the latest send; 0: not sent
	firstAttempt time.Time // no later than the first attempt; zero: none
	fromCaller   bool      // firstAttempt was set by the caller
	// earliest is the value of firstAttempt before the first lookup, in ns since the epoch; 0: no
	// lookup. A quarantine copy uses it, because a lookup in one stream does not apply to another.
	earliest   int64
	inFlight   bool // its key is in inFlightKeys
	done       bool
	lastResort bool // a refusal is not final; see [bridge.Message].LastResort
	// The last field, because most messages use little of it: the others share two cache lines.
	header [maxHeaders]headerEnd
}

// maxHeaders is the maximum number of headers besides the id.
const maxHeaders = 8

type headerEnd struct {
	name string
	end  int32
}

// set copies m into the entry.
func (e *entry) set(m *bridge.Message) {
	e.token, e.orderKey, e.attempt, e.done, e.lastResort, e.inFlight = m.Token, m.OrderKey, 0, false, m.LastResort, false
	e.firstAttempt, e.fromCaller, e.earliest = time.Time{}, m.FirstAttempt != 0, 0
	if e.fromCaller {
		e.firstAttempt = time.Unix(0, m.FirstAttempt)
	}
	b := append(e.buf[:0], m.Subject...)
	e.subject = int32(len(b))
	b = append(b, m.ID...)
	e.id = int32(len(b))
	e.headers = int32(min(len(m.Headers), maxHeaders))
	for i, h := range m.Headers[:e.headers] {
		b = append(b, h.Value...)
		e.header[i] = headerEnd{h.Name, int32(len(b))}
	}
	e.buf = append(b, m.Payload...)
}

// view fills m with slices of the entry.
func (e *entry) view(m *bridge.Message) {
	m.Token, m.OrderKey = e.token, e.orderKey
	m.FirstAttempt = 0
	if !e.firstAttempt.IsZero() {
		m.FirstAttempt = e.firstAttempt.UnixNano()
	}
	m.Subject = e.buf[:e.subject]
	m.ID = e.buf[e.subject:e.id]
	m.Headers = m.Headers[:0]
	from := e.id
	for _, h := range e.header[:e.headers] {
		m.Headers = append(m.Headers, bridge.Header{Name: h.name, Value: e.buf[from:h.end]})
		from = h.end
	}
	m.Payload = e.buf[from:]
}

// recordLookup records the time of the last lookup that did not find the message. An attempt from
// before the lookup may still be stored.
func (e *entry) recordLookup(at time.Time, uncommitted time.Duration) {
	if e.earliest == 0 {
		e.earliest = e.firstAttempt.UnixNano()
	}
	e.firstAttempt, e.fromCaller = at.Add(-uncommitted), false
}

func (e *entry) release() {
	e.done = true
	if cap(e.buf) > maxKeptBuffer {
		e.buf = nil
	}
}

// window contains the unsettled messages in the order of their Publish calls, numbered from 1.
// [head, next) are in flight. [next, tail) wait to be sent or, up to sent, to be resent: head <=
// next <= sent <= tail.
type window struct {
	entries                []entry // a ring; the length is a power of two
	head, next, sent, tail uint64
	bytes                  int // of the entries in [head, next) that are not done
}

func newWindow() window {
	return window{entries: make([]entry, 64), head: 1, next: 1, sent: 1, tail: 1}
}

func (w *window) at(seq uint64) *entry { return &w.entries[seq&uint64(len(w.entries)-1)] }

func (w *window) len() int { return int(w.tail - w.head) }

// push appends m.
func (w *window) push(m *bridge.Message) {
	if w.len() == len(w.entries) {
		w.grow()
	}
	w.at(w.tail).set(m)
	w.tail++
}

func (w *window) grow() {
	old := *w
	w.entries = make([]entry, 2*len(old.entries))
	for seq := old.head; seq < old.tail; seq++ {
		*w.at(seq) = *old.at(seq)
	}
}

// advance returns the next entry to send and counts it as in flight.
func (w *window) advance() (seq uint64, e *entry) {
	seq, e = w.next, w.at(w.next)
	w.next++
	w.sent = max(w.sent, w.next)
	w.bytes += len(e.buf)
	return seq, e
}

// rewind makes everything unsettled wait again.
func (w *window) rewind() { w.next, w.bytes = w.head, 0 }

// skipDone moves next past entries that were settled by an answer to an earlier attempt.
func (w *window) skipDone() {
	for w.next < w.sent && w.at(w.next).done {
		w.next++
	}
}

// markSent marks the entry seq as waiting to be resent.
func (w *window) markSent(seq uint64) { w.sent = max(w.sent, seq+1) }

// unanswered returns the entry seq if it was sent and has no final answer yet, otherwise nil.
func (w *window) unanswered(seq uint64) *entry {
	if seq < w.head || seq >= w.sent {
		return nil
	}
	if e := w.at(seq); !e.done {
		return e
	}
	return nil
}

// settle marks a sent entry as finally answered and moves the head past all such entries.
func (w *window) settle(seq uint64) {
	e := w.at(seq)
	if seq < w.next {
		w.bytes -= len(e.buf)
	}
	e.release()
	for w.head < w.sent && w.at(w.head).done {
		w.head++
	}
	w.next = max(w.next, w.head)
}

// clone copies an entry's message, because the entry's bytes may be reused as soon as it is
// settled.
func (e *entry) clone() *bridge.Message {
	c := *e
	c.buf = append([]byte(nil), e.buf...)
	m := new(bridge.Message)
	c.view(m)
	if e.earliest != 0 {
		m.FirstAttempt = e.earliest
	}
	return m
}
