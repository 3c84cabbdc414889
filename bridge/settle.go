package bridge

import "mqtt-nats-bridge/bridge/verdict"

// ackBatch is the number of PUBACKs after which Settle writes them even though more answers are
// available. At 100,000 messages per second that is about 1 ms.
const ackBatch = 128

// Settle implements [Settler].
func (l *Lane) Settle(r *Result) {
	l.mu.Lock()
	l.settle(r)
	full := l.acked >= ackBatch
	l.mu.Unlock()
	if full {
		l.SettleDone()
	}
}

func (l *Lane) settle(r *Result) {
	s := l.ring.get(r.Token)
	if s == nil || s.settled {
		return
	}
	if r.Refused != nil {
		l.handleRefusal(s, r)
		return
	}
	now := r.At
	if now == 0 {
		now = l.opts.Now()
	}
	if r.Duplicate {
		l.counts.Duplicates++
	}
	if s.reason == verdict.Accepted {
		l.counts.Stored++
		l.counts.AckLatency.observe(now - s.received)
		l.opts.Devices.Stored(s.sender)
	} else {
		l.counts.Quarantined[s.reason]++
	}
	l.markSettled(s)
	if s.traced {
		l.endSpan(s, r.Token, now, r.Duplicate)
	}
	if r.Token == l.ring.head {
		l.catchUp.Waited(now, now-s.received)
	}
	l.advance()
}

// markSettled marks a slot as settled: its message is stored or dropped.
func (l *Lane) markSettled(s *slot) {
	s.settled = true
	l.unsettled--
	l.bufferedBytes -= s.size
	if s.position > 0 {
		l.journal.MarkStored(s.position)
	} else {
		l.unsettledQoS0--
	}
}

// advance removes settled slots from the head of the ring and appends the PUBACKs that are due.
func (l *Lane) advance() {
	r := &l.ring
	for r.head < r.tail && r.at(r.head).settled {
		*r.at(r.head) = slot{}
		r.head++
	}
	d, due, acked := l.pendingAcks, l.pendingAcks.head, uint64(0)
	for ; due < d.tail; due++ {
		b := d.at(due)
		if s := r.get(b.token); s != nil && !s.settled {
			break
		}
		acked = max(acked, b.position) // a redelivery may have an earlier position than the one before it
	}
	if due > d.head {
		l.journal.MarkAcked(acked + 1)
		l.acking = true
	}
	for ; d.head < due; d.head++ {
		l.conn.Ack(d.at(d.head).packetID)
		l.acked++
	}
	if l.catchUp.InProgress() {
		l.catchUp.Settled(l.opts.Now())
	}
	l.resumeReading()
	if l.idle != nil && r.len() == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// SettleDone implements [Settler]. It writes the PUBACKs. The lane's lock is not held, because the
// write may block on a broker that does not read.
func (l *Lane) SettleDone() {
	l.mu.Lock()
	c := l.conn
	l.acked = 0
	l.mu.Unlock()
	if c != nil {
		c.Flush()
	}
}
