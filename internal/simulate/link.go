package simulate

import (
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	natspublish "mqtt-nats-bridge/jetstream/publish"
)

// link is the publisher's connection to NATS: a [publish.Link].
type link struct {
	w         *world
	p         *process
	handlers  natspublish.LinkHandlers
	connected bool // as far as the client knows
	attempt   bool // it has dialled, and its handler has not run yet
	closed    bool
	socket    *socket // nil before the first one
	callbacks []func()
	failWrite int             // 1: the next write fails, 2: and arrives
	kept      map[string]sent // by reply subject, where the sabotage wants it
	wrote     time.Time       // the latest message
}

// socket is what is on its way to the server. One that is dead takes nothing
// more, and the server still handles what is in it.
type socket struct {
	link *link
	msgs []sent
	dead bool
}

// sent is a message on the wire, or a question to a stream.
type sent struct {
	*letter // nil: it is a question, and payload what it asks
	subject string
	stream  string
	id      string
	reply   string
	payload string
	at      time.Time
}

const inbox = "_INBOX.simulated."

// open is the publisher opening a link.
func (p *process) open(h natspublish.LinkHandlers) (natspublish.Link, string, error) {
	p.w.others.Lock()
	defer p.w.others.Unlock()
	l := &link{w: p.w, p: p, handlers: h}
	p.link = l
	if p.away {
		p.away = false
	} else {
		l.dial()
		l.attempt = false
	}
	if p.w.sabotage.answer != nil {
		l.kept = map[string]sent{}
	}
	if f := p.w.sabotage.link; f != nil {
		return f(l), inbox, nil
	}
	return l, inbox, nil
}

func (l *link) dial() {
	if l.connected || l.closed || l.p.dead {
		return
	}
	l.w.logf("the bridge connects to NATS")
	first := l.p.generation == 0
	l.p.generation++
	l.connected, l.attempt, l.socket = true, true, &socket{link: l}
	l.w.sockets = append(l.w.sockets, l.socket)
	if first {
		l.callbacks = append(l.callbacks, l.handlers.Connected)
	} else {
		l.callbacks = append(l.callbacks, l.handlers.Reconnected)
	}
}

var errBrokenPipe = errors.New("write: broken pipe")

// PublishMsg implements [publish.Link] as nats.go behaves.
func (l *link) PublishMsg(m *nats.Msg) error {
	l.w.others.Lock()
	defer l.w.others.Unlock()
	switch {
	case l.closed:
		return nats.ErrConnectionClosed
	case l.socket == nil:
		return nats.ErrHeadersNotSupported
	case len(m.Data) > linkLimit && len(m.Header) > 0:
		return nats.ErrMaxPayload
	case !l.connected:
		return nats.ErrReconnectBufExceeded
	}
	failing := l.failWrite
	l.failWrite = 0
	if failing != 1 && !l.socket.dead && strings.HasPrefix(m.Subject, api) {
		l.socket.msgs = append(l.socket.msgs, sent{
			subject: m.Subject, reply: strings.Clone(m.Reply), payload: string(m.Data), at: time.Now(),
		})
		l.w.logf("the publisher asks %s %s", m.Subject, m.Data)
	} else if failing != 1 && !l.socket.dead {
		s := sent{
			letter: l.w.identify(m.Header[identity]), subject: strings.Clone(m.Subject), stream: streamOf(m.Subject),
			id: strings.Clone(m.Header.Get(nats.MsgIdHdr)), reply: strings.Clone(m.Reply), payload: string(m.Data),
			at: time.Now(),
		}
		l.wrote = s.at
		l.socket.msgs = append(l.socket.msgs, s)
		if l.kept != nil {
			l.kept[s.reply] = s
		}
		l.w.logf("the publisher sends message %d, %s", s.number, strings.TrimPrefix(s.reply, inbox))
	}
	if failing > 0 {
		l.socket.dead = true
		return errBrokenPipe
	}
	return nil
}

func (l *link) IsConnected() bool {
	l.w.meet()
	return l.connected && !l.attempt && !l.closed
}

func (l *link) Generation() uint64 {
	l.w.meet()
	return l.p.generation
}

// BeginSend implements [publish.Link].
func (l *link) BeginSend() (open bool) {
	l.w.meet()
	return !l.attempt
}

// EndSend implements [publish.Link].
func (l *link) EndSend() { l.w.meet() }

func (l *link) LastError() error  { return nil }
func (l *link) MaxPayload() int64 { return linkLimit }

// Close implements [publish.Link].
func (l *link) Close() {
	l.cut(0, 0)
	l.connected, l.closed, l.callbacks = false, true, nil
}

// cut ends the socket: of what is in it the first messages and answers arrive.
func (l *link) cut(messages, answers int) {
	if l.socket == nil || l.socket.dead {
		return
	}
	l.socket.dead = true
	l.socket.msgs = l.socket.msgs[:min(messages, len(l.socket.msgs))]
	l.w.answers = l.w.answers[:min(answers, len(l.w.answers))]
	l.w.logf("the NATS connection dies, %d messages and %d answers are on their way", len(l.socket.msgs), len(l.w.answers))
}

// hears reports whether the server's answers reach the client.
func (l *link) hears() bool { return l.connected && !l.closed && !l.socket.dead && !l.p.dead }

// notice is the client seeing that its socket is dead.
func (l *link) notice() {
	if l.connected && l.socket.dead {
		l.connected = false
		l.w.logf("the NATS client notices")
	}
}

func (l *link) call() {
	if len(l.callbacks) > 0 {
		f := l.callbacks[0]
		l.callbacks = l.callbacks[1:]
		l.attempt = false
		l.w.logf("the NATS client's handler runs")
		f()
	}
}

// giveUp is nats.go closing the connection for good.
func (l *link) giveUp() {
	if !l.closed {
		l.Close()
		l.w.answers = nil
		l.w.logf("the NATS client closes the connection for good")
		l.handlers.Closed(l.p.outermost())
		l.w.settleDown() // another one is opened
	}
}

// answered is an answer on its way to the bridge.
type answered struct {
	msg      nats.Msg
	positive bool
	at       time.Time
}

// answer lets up to n answers arrive, the first of them late by some places.
func (w *world) answer(n, late int) {
	for i := range n {
		l := w.process.linkUp()
		if l == nil || len(w.answers) == 0 {
			return
		}
		at := 0
		if i == 0 {
			at = min(late, len(w.answers)-1)
		}
		a := w.answers[at]
		w.answers = append(w.answers[:at:at], w.answers[at+1:]...)
		if a.positive {
			w.learned, w.process.heard = time.Now(), true
		}
		w.logf("answer %s", strings.TrimPrefix(a.msg.Subject, inbox))
		if f := w.sabotage.answer; f != nil && f(l, &a.msg) {
			continue
		}
		l.handlers.Answer(&a.msg, i < n-1 && len(w.answers) > 0)
	}
}
