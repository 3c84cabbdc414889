package bridge

import "mqtt-nats-bridge/bridge/journal"

// maxUnsettled is the number of unsettled deliveries at which a lane asks the connection to pause.
// A broker that respects its in-flight window stays below it. mosquitto 2.0.11 with queued messages
// does not: each in-order PUBACK puts another whole window in flight (db__message_delete_outgoing,
// its issue 2301), so a long backlog arrives together. Beyond 65,535 packet ids, redeliveries could
// not be distinguished. LaneOptions.MaxBytes bounds the bytes as well. QoS 0 messages do not count
// here: they have their own bound and must not delay the others.
const maxUnsettled = journal.PacketIDs / 8

// Backpressure is implemented by receivers that can ask the connection to stop reading.
type Backpressure interface {
	// Ready returns nil if the receiver accepts deliveries. Otherwise it returns a channel that is
	// closed once the receiver is ready again. Until then the connection should not be read;
	// deliveries that still arrive are accepted.
	Ready() <-chan struct{}
}

var _ Backpressure = (*Lane)(nil)

// Ready implements [Backpressure].
func (l *Lane) Ready() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bufferFill() < 1 {
		return nil
	}
	if l.ready == nil {
		l.ready = make(chan struct{})
	}
	return l.ready
}

// resumeReading closes the ready channel once the lane is at most half full.
func (l *Lane) resumeReading() {
	if l.ready != nil && l.bufferFill() <= 0.5 {
		close(l.ready)
		l.ready = nil
	}
}

// bufferFill returns the fill level of the lane. At 1 the lane asks the connection to pause.
func (l *Lane) bufferFill() float64 {
	return max(float64(l.ring.len()-l.unsettledQoS0)/maxUnsettled, float64(l.bufferedBytes)/float64(l.opts.MaxBytes))
}
