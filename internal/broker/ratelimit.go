package broker

import "time"

// lumpBytes is how much is read from a socket at a time: what a device over its
// rate is released by.
const lumpBytes = 4 << 10

// lump is the rate limit of one device connection. EMQX reads a piece from the
// socket, accepts all its messages together, and reads on only when the rate has
// caught up: nothing is refused, and the messages of a piece have one
// publish_received_at (E4). It belongs to the connection's reading goroutine.
type lump struct {
	rate     float64 // messages per second; 0: no limit
	now      func() time.Time
	wait     func(time.Duration)
	messages int // taken from the present piece
	at       time.Time
}

func (l *lump) limit(o *Options) { l.rate, l.now, l.wait = o.MessagesRate, o.Now, o.Pause }

// pause waits until the next piece may be read, or done is closed.
func (l *lump) pause(done <-chan struct{}) {
	if l.rate <= 0 || l.messages == 0 {
		return
	}
	due := l.at.Add(time.Duration(float64(l.messages) / l.rate * float64(time.Second)))
	l.messages = 0
	d := due.Sub(l.now())
	switch {
	case d <= 0:
	case l.wait != nil:
		l.wait(d)
	default:
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-done:
		}
	}
}

// begin notes that a piece was read.
func (l *lump) begin() {
	if l.rate > 0 {
		l.at = l.now()
	}
}

// received is publish_received_at of a message of the present piece.
func (l *lump) received(o *Options) time.Time {
	if l.rate > 0 {
		return l.at
	}
	return o.Now()
}
