package publish

// busyOrders are the orders ([bridge.Message].Order) with a message on its way, for
// strict order. A server that stops taking messages and another one that begins to
// (the leader of a replicated stream that steps down, and its successor) may swallow
// some of a pipeline and store what follows; behind a swallowed message there is none
// of the same device then. nil is no strict order.
type busyOrders map[uint64]struct{}

// holds tells whether e must wait for an older message of its order.
func (b busyOrders) holds(e *entry) bool {
	if b == nil {
		return false
	}
	_, held := b[e.order]
	return held
}

// begin notes e, which is sent now.
func (b busyOrders) begin(e *entry) {
	if b != nil {
		b[e.order] = struct{}{}
		e.flying = true
	}
}

// end takes e out, which is answered for good. An answer may also come for what
// waits to be sent again, behind another message of its order.
func (b busyOrders) end(e *entry) {
	if e.flying {
		delete(b, e.order)
		e.flying = false
	}
}

// forget takes out everything that is to be sent again.
func (b busyOrders) forget(w *window) {
	if b == nil {
		return
	}
	for seq := w.head; seq < w.next; seq++ {
		b.end(w.at(seq))
	}
}
