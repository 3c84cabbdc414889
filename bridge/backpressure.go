package bridge

import "mqtt-nats-bridge/bridge/journal"

// maxUnsettled is the number of unsettled deliveries at which a lane asks the connection to
// pause. A broker that keeps to its in-flight window has fewer. mosquitto 2.0.11 does not
// once messages queue: each PUBACK in order puts another whole window in flight
// (db__message_delete_outgoing, its issue 2301), so that a long backlog arrives together.
// More than the 65,535 packet ids could not be distinguished on redelivery. The bytes are
// bounded too (LaneOptions.MaxBytes). QoS 0 messages do not count: they have a separate
// bound, beyond which they are dropped, and must not delay the others.
const maxUnsettled = journal.PacketIDs / 8

// Backpressure is implemented by receivers that can ask the connection to stop reading.
type Backpressure interface {
	// Ready returns nil if the receiver takes deliveries, else a channel that is closed
	// when it does again. Until then nothing should be read from the connection;
	// deliveries that come nevertheless are taken.
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

// resumeReading lets deliveries continue once the lane is at most half full.
func (l *Lane) resumeReading() {
	if l.ready != nil && l.bufferFill() <= 0.5 {
		close(l.ready)
		l.ready = nil
	}
}

// bufferFill returns how full the lane is: at 1 it asks the connection to pause.
func (l *Lane) bufferFill() float64 {
	return max(float64(l.ring.len()-l.pending)/maxUnsettled, float64(l.bufferedBytes)/float64(l.opts.MaxBytes))
}
