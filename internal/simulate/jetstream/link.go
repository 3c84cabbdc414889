package jetstream

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/jetstream/publish"
)

const (
	// Number is the header with a message's number, which distinguishes equal messages.
	Number = "Simulated"
	// Inbox is the prefix of the subjects of answers.
	Inbox = "_INBOX.simulated."
	// Limit is the payload limit of the NATS server, in bytes.
	Limit = 48
)

// Client represents one bridge and its consecutive connections to NATS.
type Client struct {
	Life        int  // number of the bridge
	Dead        bool // killed: its calls no longer have any effect
	Unreachable bool // NATS is unreachable at the start
	Link        *Link
	// These fields break the bridge on purpose. Sending may change a message of the bridge. If
	// Intercept returns true, the bridge does not get the answer. Unnumbered hides reconnects from
	// Generation.
	Sending    func(*nats.Msg)
	Intercept  func(*Link, *nats.Msg) (taken bool)
	Unnumbered bool

	server     *Server
	generation uint64
	heard      bool // the bridge has had a positive answer
}

// Connect sets the client of the running bridge.
func (s *Server) Connect(c *Client) { c.server, s.client = s, c }

// Disconnect ends the client of the running bridge.
func (s *Server) Disconnect() { s.client, s.answers = nil, nil }

// Open opens a link for the publisher.
func (c *Client) Open(h publish.LinkHandlers) (publish.Link, string, error) {
	c.server.Others.Lock()
	defer c.server.Others.Unlock()
	c.Link = &Link{server: c.server, client: c, handlers: h}
	if c.Unreachable {
		c.Unreachable = false
	} else {
		c.Link.Dial()
		c.Link.attempt = false
	}
	if c.Intercept != nil {
		c.Link.kept = map[string]Message{}
	}
	return c.Link, Inbox, nil
}

// Link is the publisher's connection to NATS: a [publish.Link].
type Link struct {
	FailWrite int       // 1: the next write fails; 2: it fails, but arrives
	Wrote     time.Time // time of the latest message

	server    *Server
	client    *Client
	handlers  publish.LinkHandlers
	connected bool // state as known to nats.go
	attempt   bool // dialled, and the handler has not run yet
	closed    bool
	socket    *socket // nil before the first one
	callbacks []func()
	kept      map[string]Message // by reply subject, if answers are intercepted
}

// socket contains the messages on their way to the server. A dead socket accepts no more messages,
// but the server still handles those in it.
type socket struct {
	link *Link
	msgs []Message
	dead bool
}

// Message is a message of a bridge, or a request to a stream, on the wire.
type Message struct {
	Number  int // 0: a request, which is in payload
	Subject string
	Stream  string
	ID      string
	At      time.Time
	reply   string
	payload string
}

// Dial connects.
func (l *Link) Dial() {
	if l.connected || l.closed || l.client.Dead {
		return
	}
	l.server.Logf("the bridge connects to NATS")
	called := l.handlers.Reconnected
	if l.client.generation == 0 {
		called = l.handlers.Connected
	}
	l.client.generation++
	l.connected, l.attempt, l.socket = true, true, &socket{link: l}
	l.server.sockets = append(l.server.sockets, l.socket)
	l.callbacks = append(l.callbacks, called)
}

var errBrokenPipe = errors.New("write: broken pipe")

// PublishMsg implements [publish.Link] as nats.go behaves.
func (l *Link) PublishMsg(m *nats.Msg) error {
	l.server.Others.Lock()
	defer l.server.Others.Unlock()
	if f := l.client.Sending; f != nil {
		f(m)
	}
	switch {
	case l.closed:
		return nats.ErrConnectionClosed
	case l.socket == nil:
		return nats.ErrHeadersNotSupported
	case len(m.Data) > Limit && len(m.Header) > 0:
		return nats.ErrMaxPayload
	case !l.connected:
		return nats.ErrReconnectBufExceeded
	}
	failing := l.FailWrite
	l.FailWrite = 0
	if failing != 1 && !l.socket.dead {
		l.socket.msgs = append(l.socket.msgs, l.message(m))
	}
	if failing > 0 {
		l.socket.dead = true
		return errBrokenPipe
	}
	return nil
}

// message converts m to a Message on the wire.
func (l *Link) message(m *nats.Msg) Message {
	s := Message{Subject: strings.Clone(m.Subject), reply: strings.Clone(m.Reply), payload: string(m.Data), At: time.Now()}
	if strings.HasPrefix(m.Subject, API) {
		l.server.Logf("the publisher asks %s %s", m.Subject, m.Data)
		return s
	}
	var err error
	if s.Number, err = strconv.Atoi(m.Header.Get(Number)); err != nil {
		panic(err)
	}
	s.Stream, s.ID = StreamOf(s.Subject), strings.Clone(m.Header.Get(nats.MsgIdHdr))
	l.Wrote = s.At
	if l.kept != nil {
		l.kept[s.reply] = s
	}
	l.server.Logf("the publisher sends message %d, %s", s.Number, strings.TrimPrefix(s.reply, Inbox))
	return s
}

// Resend sends the message with this reply subject again, after a delay. It reports whether the
// message is known.
func (l *Link) Resend(reply string, after time.Duration) bool {
	m, ok := l.kept[reply]
	if ok && !l.socket.dead {
		time.AfterFunc(after, func() {
			l.server.Others.Lock()
			defer l.server.Others.Unlock()
			m.At = time.Now()
			l.socket.msgs = append(l.socket.msgs, m)
		})
	}
	return ok && !l.socket.dead
}

func (l *Link) IsConnected() bool {
	l.server.Others.Pass()
	return l.connected && !l.attempt && !l.closed
}

func (l *Link) Generation() uint64 {
	l.server.Others.Pass()
	if l.client.Unnumbered {
		return min(l.client.generation, 1)
	}
	return l.client.generation
}

// BeginSend implements [publish.Link].
func (l *Link) BeginSend() (open bool) {
	l.server.Others.Pass()
	return !l.attempt
}

func (l *Link) EndSend() { l.server.Others.Pass() }

func (l *Link) LastError() error  { return nil }
func (l *Link) MaxPayload() int64 { return Limit }

// Close implements [publish.Link].
func (l *Link) Close() {
	l.Cut(0, 0)
	l.connected, l.closed, l.callbacks = false, true, nil
}

// Cut ends the socket. Only the given numbers of messages and answers in it still arrive.
func (l *Link) Cut(messages, answers int) {
	if l.socket == nil || l.socket.dead {
		return
	}
	s := l.server
	l.socket.dead = true
	l.socket.msgs = l.socket.msgs[:min(messages, len(l.socket.msgs))]
	s.answers = s.answers[:min(answers, len(s.answers))]
	s.Logf("the NATS connection ends, %d messages and %d answers are in transit", len(l.socket.msgs), len(s.answers))
}

// hears reports whether answers of the server reach the client.
func (l *Link) hears() bool { return l.connected && !l.closed && !l.socket.dead && !l.client.Dead }

// Notice makes the client detect that its socket is dead.
func (l *Link) Notice() {
	if l.connected && l.socket.dead {
		l.connected = false
		l.server.Logf("the NATS client notices")
	}
}

// Call runs the client's next handler.
func (l *Link) Call() {
	if len(l.callbacks) > 0 {
		f := l.callbacks[0]
		l.callbacks = l.callbacks[1:]
		l.attempt = false
		l.server.Logf("the NATS client's handler runs")
		f()
	}
}

// GiveUp makes nats.go close the connection permanently. It reports whether the publisher opens
// another one.
func (l *Link) GiveUp() bool {
	if l.closed {
		return false
	}
	l.Close()
	l.server.answers = nil
	l.server.Logf("the NATS client closes the connection permanently")
	l.handlers.Closed(l)
	return true
}

// answer is an answer in transit to the bridge.
type answer struct {
	msg      nats.Msg
	positive bool
	at       time.Time
}

// Answer delivers up to n answers; the first is delayed by late places.
func (s *Server) Answer(n, late int) {
	for i := range n {
		if s.client == nil || s.client.Link == nil || len(s.answers) == 0 {
			return
		}
		a := s.pop(min(late, len(s.answers)-1))
		late = 0
		if a.positive {
			s.learned, s.client.heard = time.Now(), true
		}
		s.Logf("answer %s", strings.TrimPrefix(a.msg.Subject, Inbox))
		l := s.client.Link
		if f := s.client.Intercept; f != nil && f(l, &a.msg) {
			continue
		}
		l.handlers.Answer(&a.msg, i < n-1 && len(s.answers) > 0)
	}
}

// AnswerAll delivers all answers.
func (s *Server) AnswerAll() { s.Answer(len(s.answers), 0) }

// DropAnswer loses an answer.
func (s *Server) DropAnswer(which int) {
	if len(s.answers) > 0 {
		s.pop(which % len(s.answers))
		s.lastBad = time.Now()
		s.Logf("an answer is lost")
	}
}

func (s *Server) pop(at int) answer {
	a := s.answers[at]
	s.answers = append(s.answers[:at:at], s.answers[at+1:]...)
	return a
}
