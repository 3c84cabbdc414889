package streams

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/jetstream/publish"
)

const (
	// Number is the header with a message's number, which distinguishes several equal messages.
	Number = "Simulated"
	// Inbox begins the subjects of answers.
	Inbox = "_INBOX.simulated."
	// Limit is the NATS server's for payloads, in bytes.
	Limit = 48
)

// Client is one bridge's end: its connections to NATS, one after the other.
type Client struct {
	Life        int  // the how many-th bridge it is
	Dead        bool // killed: nothing that it still does has any effect
	Unreachable bool // NATS is, at the start
	Link        *Link
	// Wrap and Intercept break the bridge on purpose, the latter by taking an answer itself. Nil: they do not.
	Wrap      func(*Link) publish.Link
	Intercept func(*Link, *nats.Msg) (taken bool)

	server     *Server
	generation uint64
	heard      bool // has had a positive answer
}

// Connect makes a client that of the bridge that runs.
func (s *Server) Connect(c *Client) { c.server, s.client = s, c }

// Disconnect is the end of the bridge that runs.
func (s *Server) Disconnect() { s.client, s.answers = nil, nil }

// Open is the publisher opening a link.
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
	return c.outermost(), Inbox, nil
}

// outermost is the link as the publisher knows it.
func (c *Client) outermost() publish.Link {
	if c.Wrap != nil {
		return c.Wrap(c.Link)
	}
	return c.Link
}

// Link is the publisher's connection to NATS: a [publish.Link].
type Link struct {
	FailWrite int       // 1: the next write fails, 2: and arrives
	Wrote     time.Time // the latest message

	server    *Server
	client    *Client
	handlers  publish.LinkHandlers
	connected bool // as far as nats.go knows
	attempt   bool // it has dialled, and its handler has not run yet
	closed    bool
	socket    *socket // nil before the first one
	callbacks []func()
	kept      map[string]Message // by reply subject, where answers are intercepted
}

// socket is what is on its way to the server. One that is dead takes nothing
// more, and the server still handles what is in it.
type socket struct {
	link *Link
	msgs []Message
	dead bool
}

// Message is on the wire: a bridge's message, or a question to a stream.
type Message struct {
	Number  int // 0: it is a question, and payload what it asks
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

// message is what goes on the wire.
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
	s.Stream, s.ID = Of(s.Subject), strings.Clone(m.Header.Get(nats.MsgIdHdr))
	l.Wrote = s.At
	if l.kept != nil {
		l.kept[s.reply] = s
	}
	l.server.Logf("the publisher sends message %d, %s", s.Number, strings.TrimPrefix(s.reply, Inbox))
	return s
}

// Resend sends the message with a reply subject once more, after a while. It reports whether it is known.
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

// Cut ends the socket: of what is in it the first messages and answers arrive.
func (l *Link) Cut(messages, answers int) {
	if l.socket == nil || l.socket.dead {
		return
	}
	s := l.server
	l.socket.dead = true
	l.socket.msgs = l.socket.msgs[:min(messages, len(l.socket.msgs))]
	s.answers = s.answers[:min(answers, len(s.answers))]
	s.Logf("the NATS connection dies, %d messages and %d answers are on their way", len(l.socket.msgs), len(s.answers))
}

// hears reports whether the server's answers reach the client.
func (l *Link) hears() bool { return l.connected && !l.closed && !l.socket.dead && !l.client.Dead }

// Notice is the client seeing that its socket is dead.
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

// GiveUp is nats.go closing the connection permanently. It reports whether the publisher opens another one.
func (l *Link) GiveUp() bool {
	if l.closed {
		return false
	}
	l.Close()
	l.server.answers = nil
	l.server.Logf("the NATS client closes the connection for good")
	l.handlers.Closed(l.client.outermost())
	return true
}

// answer is on its way to the bridge.
type answer struct {
	msg      nats.Msg
	positive bool
	at       time.Time
}

// Answer lets up to n answers arrive, the first of them late by some places.
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

// AnswerAll lets all answers arrive.
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
