package mqtt

import (
	"net"
	"time"

	"mqtt-nats-bridge/bridge"
)

// pause keeps the tap from reading while the receiver has no room: TCP then
// holds back the broker, the only thing in MQTT 3.1.1 that does. The broker's
// PINGRESP waits behind the messages, and paho, which must not take the
// connection for dead, is answered from here.
type pause struct {
	receiver bridge.Backpressure // nil: the receiver is always ready
	pinged   chan struct{}       // holds a token from paho's PINGREQ to its answer
	hung     chan struct{}       // closed with the socket
}

func newPause(r bridge.Receiver) pause {
	receiver, _ := r.(bridge.Backpressure)
	return pause{receiver: receiver, pinged: make(chan struct{}, 1), hung: make(chan struct{})}
}

// pingAnswer is a PINGRESP (§3.13).
var pingAnswer = []byte{typePingresp << 4, 0}

// ping notes that paho wants an answer.
func (p *pause) ping() {
	select {
	case p.pinged <- struct{}{}:
	default:
	}
}

// wait returns when the receiver is ready, with pinged true if paho has to be answered
// before.
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
	case <-p.hung:
		return false, net.ErrClosed
	}
}

// fence waits until what was read may be taken, and is false where the socket was
// closed before that. It waits only after the whole process has stood still.
func (p *pause) fence(c Claim) bool {
	for c.Fenced() {
		select {
		case <-p.hung:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// awaitAnswer is false where none comes to a SUBSCRIBE or UNSUBSCRIBE. It may come
// late, behind the messages of a long backlog: a broker that sends something has not
// stopped working.
func (t *tap) awaitAnswer(answer, stop <-chan struct{}) bool {
	for {
		select {
		case <-answer:
			return true
		case <-stop:
			select {
			case <-answer: // it came first
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

// quiet is the time since the last byte from the broker, not counting time we did not read.
func (t *tap) quiet() time.Duration {
	at := t.heard.Load()
	if at == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - at)
}
