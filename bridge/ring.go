package bridge

// slot is a delivery between its arrival and its PUBACK.
type slot struct {
	conn     Conn // nil at QoS 0
	hash     uint64
	number   uint64 // in the journal
	received int64  // ns since the epoch
	sender   deviceRef
	packetID uint16
	reason   Reason
	settled  bool
	noted    bool // the journal knows it
}

// ring holds a lane's slots in the order of arrival. A slot's token is its
// number since the lane began, from 1.
type ring struct {
	slots      []slot // its length is a power of two
	head, tail uint64
	// slotOf has the low half of the token of the latest slot of each packet
	// id, to find a redelivery whose first delivery still waits.
	slotOf [packetIDs]uint32
}

func newRing() *ring { return &ring{slots: make([]slot, 64), head: 1, tail: 1} }

func (r *ring) at(token uint64) *slot { return &r.slots[token&uint64(len(r.slots)-1)] }

func (r *ring) len() int { return int(r.tail - r.head) }

// push appends a slot and returns its token.
func (r *ring) push(s slot) uint64 {
	if r.len() == len(r.slots) {
		old := *r
		r.slots = make([]slot, 2*len(old.slots))
		for t := old.head; t < old.tail; t++ {
			*r.at(t) = old.slots[t&uint64(len(old.slots)-1)]
		}
	}
	token := r.tail
	r.tail++
	*r.at(token) = s
	if s.conn != nil {
		r.slotOf[s.packetID] = uint32(token)
	}
	return token
}

// waiting finds the slot of an earlier delivery of the same message, nil where
// it is not in the ring any more.
func (r *ring) waiting(packetID uint16, hash uint64) *slot {
	back := uint32(r.tail) - r.slotOf[packetID]
	if back == 0 || uint64(back) > uint64(r.len()) {
		return nil
	}
	s := r.at(r.tail - uint64(back))
	if s.conn == nil || s.packetID != packetID || s.hash != hash {
		return nil
	}
	return s
}

// get returns the slot of a token that is in the ring, nil for another.
func (r *ring) get(token uint64) *slot {
	if token < r.head || token >= r.tail {
		return nil
	}
	return r.at(token)
}
