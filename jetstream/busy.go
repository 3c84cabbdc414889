package jetstream

import "github.com/cespare/xxhash/v2"

// busySubjects are the subjects with a message on its way, for strict order. A
// server that stops taking messages and another one that begins to (the leader of
// a replicated stream that steps down, and its successor) may swallow some of a
// pipeline and store what follows; behind a swallowed message there is none of the
// same subject then.
//
// Subjects share buckets by their hash: two in one wait for each other now and
// then. nil is no strict order.
type busySubjects struct {
	counts [busyBuckets]uint16
}

const busyBuckets = 1 << 13

// holds tells whether e must wait for an older message of its subject.
func (b *busySubjects) holds(e *entry) bool {
	if b == nil {
		return false
	}
	e.bucket = uint16(xxhash.Sum64(e.buf[:e.subject]) % busyBuckets)
	return b.counts[e.bucket] > 0
}

// begin counts e, which is sent now.
func (b *busySubjects) begin(e *entry) {
	if b == nil || e.flying {
		return
	}
	e.bucket = uint16(xxhash.Sum64(e.buf[:e.subject]) % busyBuckets)
	e.flying = true
	b.counts[e.bucket]++
}

// end takes e out, which is answered for good.
func (b *busySubjects) end(e *entry) {
	if b == nil || !e.flying {
		return
	}
	e.flying = false
	b.counts[e.bucket]--
}

// forget takes out everything that is to be sent again.
func (b *busySubjects) forget(w *window) {
	if b == nil {
		return
	}
	for seq := w.head; seq < w.next; seq++ {
		b.end(w.at(seq))
	}
}
