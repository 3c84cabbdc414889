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

// ring contains the slots of a lane in order of arrival. A slot's token is its number since the
// lane was created, from 1.
type ring struct {
	slots      []slot // the length is a power of two
	head, tail uint64
}

func newRing() *ring { return &ring{slots: make([]slot, 64), head: 1, tail: 1} }

func (r *ring) at(token uint64) *slot { return &r.slots[token&uint64(len(r.slots)-1)] }

func (r *ring) len() int { return int(r.tail - r.head) }

// push appends a slot and returns its token.
func (r *ring) push(s slot) uint64 {
	if r.len() == len(r.slots) {
		old := r.slots
		r.slots = make([]slot, 2*len(old))
		for t := r.head; t < r.tail; t++ {
			*r.at(t) = old[t&uint64(len(old)-1)]
		}
	}
	token := r.tail
	r.tail++
	*r.at(token) = s
	return token
}

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
	due        []pendingAck // the length is a power of two
	head, tail uint64
	// latest has, per packet id, the low half of the index of the latest PUBACK due. It avoids a
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

func newPendingAcks() *pendingAcks { return &pendingAcks{due: make([]pendingAck, 64)} }

func (d *pendingAcks) at(i uint64) *pendingAck { return &d.due[i&uint64(len(d.due)-1)] }

func (d *pendingAcks) push(b pendingAck) {
	if int(d.tail-d.head) == len(d.due) {
		old := d.due
		d.due = make([]pendingAck, 2*len(old))
		for i := d.head; i < d.tail; i++ {
			*d.at(i) = old[i&uint64(len(old)-1)]
		}
	}
	*d.at(d.tail) = b
	d.latest[b.packetID] = uint32(d.tail)
	d.tail++
}

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
