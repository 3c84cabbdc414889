package proof

import (
	"fmt"
	"net"
	"time"
)

// publish writes all unacknowledged messages, in batches as they become due.
func (l *Load) publish(conn net.Conn, gone func() bool) error {
	const batch = 64
	var buf []byte
	var due pace
	for next, begun := 0, false; next < l.Total; begun = true {
		todo, waited, err := l.take(next, batch, gone)
		if err != nil {
			return err
		}
		if waited || !begun {
			due = pace{l.Rate, todo.first, time.Now()}
		}
		buf = buf[:0]
		for _, f := range todo.flights {
			if pause := due.until(f.message); pause > 0 {
				if _, err := conn.Write(buf); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
				buf = buf[:0]
				time.Sleep(pause) // paces the load; not a wait for a condition
			}
			buf = l.appendPublish(buf, f)
		}
		if _, err := conn.Write(buf); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		next = todo.next
	}
	return nil
}

// pace computes when a message is due: rate messages per second from the message from on, which was
// due at began.
type pace struct {
	rate  int // 0: as fast as possible
	from  int
	began time.Time
}

func (p pace) until(message int) time.Duration {
	if p.rate == 0 {
		return 0
	}
	due := p.began.Add(time.Duration(message-p.from) * time.Second / time.Duration(p.rate))
	if pause := time.Until(due); pause > time.Millisecond {
		return pause
	}
	return 0
}

// sending contains the packets of one write.
type sending struct {
	flights     []outgoing
	first, next int // first message, and the one after the last
}

type outgoing struct {
	message  int
	packetID uint16
	dup      bool
	before   uint8 // number of earlier publishes
}

// take waits until the next message may be sent and puts at most n messages in flight. waited reports
// whether it had to wait for Release.
func (l *Load) take(next, n int, gone func() bool) (todo sending, waited bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	each := 1
	if l.Twice {
		each = 2
	}
	for next < l.Total && l.pubacks[next] > 0 {
		next++
	}
	todo.first, todo.next = next, next
	if next == l.Total {
		return todo, false, nil
	}
	for l.err == nil && !gone() && (next == l.limit || l.unacked+each > Window) {
		waited = waited || next == l.limit
		l.changed.Wait()
	}
	if l.err != nil {
		return todo, false, l.err
	}
	if gone() {
		return todo, false, net.ErrClosed
	}
	for ; todo.next < min(next+n, l.limit) && l.unacked+each <= Window; todo.next++ {
		if l.pubacks[todo.next] > 0 {
			continue // acknowledged on an earlier connection
		}
		for range each {
			id := PacketID(l.packets)
			todo.flights = append(todo.flights, outgoing{todo.next, id, l.sends[todo.next] > 0, l.sends[todo.next]})
			l.inFlight[id] = todo.next + 1
			l.sends[todo.next]++
			l.packets++
			l.unacked++
		}
	}
	l.sent = max(l.sent, todo.next)
	return todo, waited, nil
}
