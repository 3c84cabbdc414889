package bridge

// maxUnsettled is how many deliveries a lane takes before it has the connection
// pause. A broker's in-flight window is smaller where it is kept. mosquitto
// 2.0.11 does not keep it once messages queue: each PUBACK in order puts a
// whole further window in flight (db__message_delete_outgoing, its issue 2301),
// so that all of a long backlog comes at once. More than the 65,535 packet ids
// could not be told apart when they come again. Their bytes are bounded too
// (LaneOptions.MaxBytes). QoS 0 messages do not count: they have a bound of their
// own, beyond which they are dropped, and must not hold up the others.
const maxUnsettled = packetIDs / 8

// Throttle is what a [Receiver] implements that may have no room.
type Throttle interface {
	// Room returns nil where deliveries may go on, else a channel that is
	// closed when they may: until then nothing should be read from the
	// connection. What is delivered all the same is taken.
	Room() <-chan struct{}
}

var _ Throttle = (*Lane)(nil)

// Room implements [Throttle].
func (l *Lane) Room() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fill() < 1 {
		return nil
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}

// makeRoom lets deliveries go on once half of the room is free again.
func (l *Lane) makeRoom() {
	if l.room != nil && l.fill() <= 0.5 {
		close(l.room)
		l.room = nil
	}
}

// fill is how full the lane is: 1 is the point at which it asks for a pause.
func (l *Lane) fill() float64 {
	return max(float64(l.ring.len()-l.pending)/maxUnsettled, float64(l.held)/float64(l.opts.MaxBytes))
}
