package bridge

import (
	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

// slot is a delivery between its arrival and its PUBACK.
type slot struct {
	received int64  // ns since the epoch
	position uint64 // in the journal; 0 at QoS 0
	sender   limit.Ref
	size     int    // bytes buffered until it is settled
	epoch    uint32 // of the connection on which its PUBACK is due
	reason   verdict.Reason
	settled  bool
	wrapped  bool // its payload is in an envelope
	traced   bool // it has a span
	// Which attempts to store its quarantine copy were made; see handleRefusal.
	overflowed, shortened bool
}

// queue is a ring buffer that grows. Its items are numbered from 1.
type queue[T any] struct {
	items      []T // the length is a power of two
	head, tail uint64
}

func newQueue[T any]() queue[T] { return queue[T]{items: make([]T, 64), head: 1, tail: 1} }

func (q *queue[T]) at(n uint64) *T { return &q.items[n&uint64(len(q.items)-1)] }

func (q *queue[T]) len() int { return int(q.tail - q.head) }

// push appends an item and returns its number.
func (q *queue[T]) push(item T) uint64 {
	if q.len() == len(q.items) {
		old := q.items
		q.items = make([]T, 2*len(old))
		for n := q.head; n < q.tail; n++ {
			*q.at(n) = old[n&uint64(len(old)-1)]
		}
	}
	*q.at(q.tail) = item
	q.tail++
	return q.tail - 1
}

// ring contains the slots of a lane in order of arrival. A slot's token is its number since the
// lane was created, from 1.
type ring struct{ queue[slot] }

// tokens returns the tokens of the slots by journal position.
func (r *ring) tokens() map[uint64]uint64 {
	tokens := make(map[uint64]uint64, r.len())
	for t := r.head; t < r.tail; t++ {
		if p := r.at(t).position; p > 0 {
			tokens[p] = t
		}
	}
	return tokens
}

// tokenOf returns the token of the slot at a journal position; 0 if there is none.
func (r *ring) tokenOf(position uint64) uint64 {
	for t := r.tail; t > r.head; t-- {
		if r.at(t-1).position == position {
			return t - 1
		}
	}
	return 0
}

// get returns the slot of a token; nil if it is not in the ring.
func (r *ring) get(token uint64) *slot {
	if token < r.head || token >= r.tail {
		return nil
	}
	return r.at(token)
}

// pendingAcks is the queue of PUBACKs due on the current connection, in order of delivery. That
// order differs from the ring's: a redelivered message may be anywhere in the ring, or no longer in
// it.
type pendingAcks struct {
	queue[pendingAck]
	// latest has, per packet id, the low half of the number of the latest PUBACK due. It avoids a
	// scan when a broker resends waiting messages many times.
	latest [journal.PacketIDs]uint32
}

// pendingAck is a PUBACK that is sent once its slot is settled or no longer in the ring.
type pendingAck struct {
	token    uint64 // 0: no slot
	position uint64 // in the journal
	hash     uint64
	packetID uint16
}

func (d *pendingAcks) push(b pendingAck) { d.latest[b.packetID] = uint32(d.queue.push(b)) }

// contains reports whether the PUBACK of exactly this message is still due. In that case its packet
// id cannot belong to another message.
func (d *pendingAcks) contains(packetID uint16, hash uint64) bool {
	back := uint64(uint32(d.tail) - d.latest[packetID])
	if back == 0 || back > d.tail-d.head {
		return false
	}
	b := d.at(d.tail - back)
	return b.packetID == packetID && b.hash == hash
}
