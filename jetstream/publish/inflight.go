package publish

// inFlightKeys are the [bridge.Message].OrderKey values of messages in flight, for strict order.
// When the leader of a replicated stream steps down, it and its successor may drop some messages of
// a pipeline and store those that follow. With at most one message in flight per key, no message of
// the same device follows a dropped one. nil disables strict order.
type inFlightKeys map[uint64]struct{}

// mustWait reports whether e must wait for an older message with its key.
func (b inFlightKeys) mustWait(e *entry) bool {
	if b == nil {
		return false
	}
	_, inFlight := b[e.orderKey]
	return inFlight
}

// begin adds the key of e, which is about to be sent.
func (b inFlightKeys) begin(e *entry) {
	if b != nil {
		b[e.orderKey] = struct{}{}
		e.inFlight = true
	}
}

// end removes the key of e, which has its final answer. An answer may also arrive for a message
// that waits to be resent, behind another one with its key.
func (b inFlightKeys) end(e *entry) {
	if e.inFlight {
		delete(b, e.orderKey)
		e.inFlight = false
	}
}

// reset removes the keys of all messages that will be resent.
func (b inFlightKeys) reset(w *window) {
	if b == nil {
		return
	}
	for seq := w.head; seq < w.next; seq++ {
		b.end(w.at(seq))
	}
}
