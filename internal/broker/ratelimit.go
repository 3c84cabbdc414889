package broker

import "time"

// chunkBytes is the size of the buffer for reads from a socket. A device above its rate limit is
// released by one chunk at a time.
const chunkBytes = 4 << 10

// rateLimit is the rate limit of one device connection. EMQX reads a chunk from the socket, accepts
// all its messages, and reads again only when the rate allows it. No message is refused, and all
// messages of a chunk have the same publish_received_at (E4). Only the connection's reading
// goroutine uses it.
type rateLimit struct {
	rate     float64 // messages per second; 0: no limit
	now      func() time.Time
	wait     func(time.Duration)
	messages int // of the current chunk
	at       time.Time
}

func (l *rateLimit) set(o *Options) { l.rate, l.now, l.wait = o.MessagesRate, o.Now, o.Pause }

// pause waits until the next chunk may be read, or until done is closed.
func (l *rateLimit) pause(done <-chan struct{}) {
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

// begin records the time at which a chunk was read.
func (l *rateLimit) begin() {
	if l.rate > 0 {
		l.at = l.now()
	}
}

// received returns publish_received_at for a message of the current chunk.
func (l *rateLimit) received(o *Options) time.Time {
	if l.rate > 0 {
		return l.at
	}
	return o.Now()
}
