package bridge

// maxUnsettled is how many deliveries a lane takes before it has the connection
// pause. A broker's in-flight window is smaller where it is kept. mosquitto
// 2.0.11 does not keep it once messages queue: each PUBACK in order puts a
// whole further window in flight (db__message_delete_outgoing, its issue 2301),
// so that all of a long backlog comes at once. More than the 65,535 packet ids
// could not be told apart when they come again, and would not fit in memory.
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
	if l.ring.len() < maxUnsettled {
		return nil
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}

// makeRoom lets deliveries go on once half of the room is free again.
func (l *Lane) makeRoom() {
	if l.room != nil && l.ring.len() <= maxUnsettled/2 {
		close(l.room)
		l.room = nil
	}
}
