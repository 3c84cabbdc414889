package publish

import (
	"strconv"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/conn"
)

// writeTimeout bounds a write to a server that has stopped reading, and so the duration of Publish.
const writeTimeout = 2 * time.Second

// pump sends waiting messages in order, as far as the bounds allow.
func (p *Publisher) pump() {
	if p.lookups.active {
		return
	}
	open := p.link.BeginSend()
	defer p.link.EndSend()
	if !open && p.win.next < p.win.tail {
		p.recover(conn.ErrDisconnected)
		return
	}
	if g := p.link.Generation(); g != p.generation {
		if p.win.next > p.win.head {
			p.recover(conn.ErrDisconnected)
			return
		}
		p.generation = g
	}
	if !p.proven && p.win.next < p.win.tail && p.fenced() {
		p.recover(errFenced)
		return
	}
	for {
		p.win.skipDone()
		if p.win.next == p.win.tail {
			return
		}
		if p.inFlightKeys.mustWait(p.win.at(p.win.next)) {
			return
		}
		inFlight := int(p.win.next - p.win.head)
		if inFlight >= p.opts.MaxInFlight || inFlight > 0 && !p.proven ||
			inFlight > 0 && p.win.bytes+len(p.win.at(p.win.next).buf) > p.opts.MaxBytesInFlight {
			return
		}
		if e := p.win.at(p.win.next); !e.firstAttempt.IsZero() && p.mayBeForgotten(e, time.Now()) && p.lookUp(p.win.next) {
			return
		}
		seq, e := p.win.advance()
		p.inFlightKeys.begin(e)
		if err := p.send(seq, e); err != nil && !p.sendFailed(seq, err) {
			return
		}
	}
}

// send writes one message to the link.
func (p *Publisher) send(seq uint64, e *entry) error {
	if e.attempt != 0 {
		p.stats.Resent++
	}
	p.stats.Sent++
	if e.firstAttempt.IsZero() {
		e.firstAttempt = p.progress
	}
	e.attempt = p.recovery.attempt
	e.view(&p.scratch)
	p.setHeader(&p.scratch)
	p.reply = append(p.reply[:0], p.inbox...)
	p.reply = strconv.AppendUint(p.reply, seq, 36)
	p.reply = append(p.reply, '.')
	p.reply = strconv.AppendUint(p.reply, uint64(e.attempt), 36)
	p.msg.Subject, p.msg.Reply, p.msg.Data = alias(p.scratch.Subject), alias(p.reply), p.scratch.Payload
	return p.link.PublishMsg(&p.msg)
}

// setHeader sets the header of p.msg. Messages of a lane mostly have the same header names. In that
// case only the values change, which saves clearing and filling the map: 0.1 µs for three headers.
func (p *Publisher) setHeader(m *bridge.Message) {
	id := ""
	if len(m.ID) > 0 {
		id = nats.MsgIdHdr
	}
	same := p.nameCount == 1+len(m.Headers) && p.names[0] == id
	p.values[0][0] = alias(m.ID)
	for i, x := range m.Headers {
		same = same && p.names[i+1] == x.Name
		p.values[i+1][0] = alias(x.Value)
	}
	if same {
		return
	}
	h := p.msg.Header
	clear(h)
	p.nameCount, p.names[0] = 1+len(m.Headers), id
	if id != "" {
		h[id] = p.values[0][:]
	}
	for i, x := range m.Headers {
		p.names[i+1] = x.Name
		h[x.Name] = p.values[i+1][:]
	}
}

// alias returns b as a string without copying. nats.go copies a message into its write buffer
// before PublishMsg returns and does not retain it.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// sendFailed handles a message that nats.go refused, and reports whether others may still be sent.
func (p *Publisher) sendFailed(seq uint64, err error) (ok bool) {
	if Classify(err) == Reject && !p.win.at(seq).lastResort {
		// The settler must not be called from within Publish.
		p.refused = append(p.refused, refusal{seq, err})
		p.schedule(immediately)
		return true
	}
	if !p.link.IsConnected() {
		err = conn.ErrDisconnected
	}
	p.recover(err)
	return false
}
