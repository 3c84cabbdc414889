package simulate

import "time"

// rest ends all faults and waits until all messages are settled. Then each message must be stored,
// unless the broker lost it or a check rejected it.
func (w *world) rest() {
	w.logf("--- rest")
	w.heal(false)
	for range 2000 {
		if w.violation != nil || w.resting() {
			break
		}
		w.driving = true
		w.mend()
		w.driving = false
		w.settleDown()
		w.sleep(50 * time.Millisecond)
		w.judgeAcks()
	}
	b := &w.broker
	if !w.resting() {
		w.fail(stuck, "%d messages queued, %d in flight, %d in the ring, %d in the publisher's window",
			len(b.queue), len(b.inFlight), w.process.lane.Counts().InFlight, w.process.publisher.Stats().Unsettled)
	}
	for _, l := range w.letters {
		promised := l.sent > 0 && !l.lost
		if l.qos == 0 { // an unread QoS 0 message is not redelivered
			promised = l.lifetime > 0 && !l.mayFail
		}
		if promised && !w.stored(l, func(o *letter) bool { return o.sent > 0 && !o.counted }) {
			w.fail(lost, "message %d", l.number)
		}
	}
}

// mend ends the faults and runs every part once.
func (w *world) mend() {
	b := &w.broker
	w.start(false)
	if w.process == nil {
		return
	}
	if c := b.conn; c != nil && c.cut {
		w.happen(event{op: notice})
	}
	b.connect()
	l := w.process.Link
	l.FailWrite = 0
	l.Notice()
	l.Dial()
	l.Call()
	b.send(8)
	w.read(len(b.pipe))
	if len(b.pipe)+len(b.queue) == 0 {
		w.tick() // ends an incomplete redelivery
	}
	w.settleAll()
	if b.conn != nil {
		b.conn.Flush()
	}
	b.takeAcks(packetIDs)
}

// resting reports whether all messages are settled.
func (w *world) resting() bool {
	b := &w.broker
	if w.process == nil || b.conn == nil || len(b.queue)+len(b.inFlight)+len(b.pipe) > 0 {
		return false
	}
	return w.server.Idle() && w.process.lane.Counts().InFlight == 0 && w.process.publisher.Stats().Unsettled == 0
}
