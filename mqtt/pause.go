package mqtt

import (
	"net"
	"time"

	"mqtt-nats-bridge/bridge"
)

// pause implements back-pressure. While the receiver is not ready, the tap does not read, and TCP
// flow control stops the broker. MQTT 3.1.1 has no other means. The broker's PINGRESP is queued
// behind the messages, so the tap answers paho's pings itself. Otherwise paho would consider the
// connection dead.
type pause struct {
	receiver     bridge.Backpressure // nil: the receiver is always ready
	pinged       chan struct{}       // has a token from paho's PINGREQ until its answer
	socketClosed chan struct{}       // closed with the socket
}

func newPause(r bridge.Receiver) pause {
	receiver, _ := r.(bridge.Backpressure)
	return pause{receiver: receiver, pinged: make(chan struct{}, 1), socketClosed: make(chan struct{})}
}

// pingAnswer is a PINGRESP (§3.13).
var pingAnswer = []byte{typePingresp << 4, 0}

// ping records that paho expects an answer.
func (p *pause) ping() {
	select {
	case p.pinged <- struct{}{}:
	default:
	}
}

// wait returns once the receiver is ready, or with pinged true if paho must be answered first.
func (p *pause) wait() (pinged bool, err error) {
	if p.receiver == nil {
		return false, nil
	}
	ready := p.receiver.Ready()
	if ready == nil {
		return false, nil
	}
	select {
	case <-ready:
		return false, nil
	case <-p.pinged:
		return true, nil
	case <-p.socketClosed:
		return false, net.ErrClosed
	}
}

// fence waits until the bytes just read may be delivered. It returns false if the socket was closed
// first. It waits only after the whole process was suspended.
func (p *pause) fence(c Claim) bool {
	for c.Fenced() {
		select {
		case <-p.socketClosed:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// awaitAnswer waits for the answer to a SUBSCRIBE or UNSUBSCRIBE and returns false if none arrived.
// The answer may be late, behind a long backlog of messages, so a broker that sends anything counts
// as working.
func (t *tap) awaitAnswer(answer, stop <-chan struct{}) bool {
	for {
		select {
		case <-answer:
			return true
		case <-stop:
			select {
			case <-answer: // the answer arrived first
				return true
			default:
				return false
			}
		case <-time.After(answerTimeout):
			if t.quiet() >= answerTimeout/2 {
				t.closeBecause(errNoSuback)
				return false
			}
		}
	}
}

// quiet returns the time since the last byte from the broker, not counting time in which the tap
// did not read.
func (t *tap) quiet() time.Duration {
	at := t.lastRead.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - at)
}
