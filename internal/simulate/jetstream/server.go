package jetstream

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// Main is the stream of accepted messages.
	Main       = "TELEMETRY"
	quarantine = "QUARANTINE"

	// DuplicateWindow is the duplicate window of the streams.
	DuplicateWindow = 2 * time.Minute
)

// Options contains the settings of a run.
type Options struct {
	Replicated bool          // messages are stored first and replicated later
	Ragged     bool          // a fault refuses single messages
	Skew       time.Duration // time by which the servers' clocks are ahead of the bridge's
	Follower   bool          // look-ups go to a lagging replica instead of the leader

	Others *Gate
	Logf   func(format string, args ...any)
	// Storing is called before a stream stores a message. Dropping is called before it drops one as
	// a duplicate.
	Storing  func(Message, *Client)
	Dropping func(m Message, of int)
}

// Gate is locked by the publisher's own goroutines when they enter the simulation. They run only
// while the simulation's goroutine waits. That goroutine locks and unlocks it too, so that the race
// detector sees the order.
type Gate struct{ sync.Mutex }

// Pass orders the previous actions of the simulation before later actions of other goroutines.
func (g *Gate) Pass() {
	g.Lock()
	defer g.Unlock()
}

// Server simulates JetStream.
type Server struct {
	Options
	client  *Client // of the running bridge; nil: none
	sockets []*socket
	answers []answer
	learned time.Time // when a positive answer last arrived

	byID    map[string]entry // by stream and id
	log     []entry          // in the order of storing; [safe:] can be lost
	safe    int
	copies  map[int][]*Copy // by message
	refuses string          // the refusal; see refusals
	faulty  bool
	mask    int              // ragged: which messages are refused
	seen    int              // messages received during the fault
	met     map[meeting]bool // refused messages
	lastBad time.Time        // when the latest of them was first refused
	skew    time.Duration    // of the leader's clock relative to the bridge's
	stale   int              // a lagging replica has log[:stale]
}

// Copy is one copy of a message in a stream.
type Copy struct {
	Stream  string
	Subject string
	ID      string
	At      time.Time
	Safe    bool // replicated: a leader change does not lose it
	Purged  bool // deleted from the stream
	Life    int  // of the bridge that sent it
}

// entry is one stored message.
type entry struct {
	*Copy
	number int
	reply  string
	from   *socket
	stamp  time.Time // by the leader's clock; At is by the bridge's clock
}

// New returns a server without messages.
func New(o Options) *Server {
	s := &Server{Options: o, byID: map[string]entry{}, copies: map[int][]*Copy{}}
	s.skew = s.skewOf(0)
	return s
}

// Copies returns the copies of a message in the streams, in the order of storing.
func (s *Server) Copies(message int) []*Copy { return s.copies[message] }

// Stored returns the messages in the main stream, in order.
func (s *Server) Stored() (messages []int) {
	for _, e := range s.log {
		if e.Stream == Main {
			messages = append(messages, e.number)
		}
	}
	return messages
}

// Idle reports whether everything has been handled, answered and read.
func (s *Server) Idle() bool {
	for _, c := range s.sockets {
		if len(c.msgs) > 0 {
			return false
		}
	}
	return len(s.answers) == 0 && s.safe == len(s.log)
}

// Store makes the server process n messages of one of the connections.
func (s *Server) Store(n, which int) {
	var open []*socket
	for _, c := range s.sockets {
		if len(c.msgs) > 0 {
			open = append(open, c)
		}
	}
	if len(open) > 0 {
		s.takeFrom(open[which%len(open)], n)
		s.sweep()
	}
}

// takeFrom processes n messages of a connection.
func (s *Server) takeFrom(c *socket, n int) {
	for range min(n, len(c.msgs)) {
		m := c.msgs[0]
		c.msgs = c.msgs[1:]
		s.take(m, c)
	}
}

// Drain makes the server process everything on the wire, and the bridge the answers. It reports
// whether there was anything.
func (s *Server) Drain() (some bool) {
	for _, c := range s.sockets {
		some = some || len(c.msgs) > 0
		s.takeFrom(c, len(c.msgs))
	}
	s.sweep()
	some = some || len(s.answers) > 0
	s.AnswerAll()
	return some
}

// Overdue processes everything that has been in transit for longer than bound: messages, commits
// and, unless the bridge is suspended, answers.
func (s *Server) Overdue(bound time.Duration, still bool) {
	for _, c := range s.sockets {
		for len(c.msgs) > 0 && time.Since(c.msgs[0].At) > bound {
			s.takeFrom(c, 1)
		}
	}
	for s.safe < len(s.log) && !s.leaderless() && time.Since(s.log[s.safe].At) > bound {
		s.Commit(1)
	}
	for len(s.answers) > 0 && !still && time.Since(s.answers[0].at) > bound {
		s.Answer(1, 0)
	}
}

// sweep removes empty dead connections.
func (s *Server) sweep() {
	kept := s.sockets[:0]
	for _, c := range s.sockets {
		if !c.dead || len(c.msgs) > 0 {
			kept = append(kept, c)
		}
	}
	clear(s.sockets[len(kept):])
	s.sockets = kept
}

const (
	refuseForGood = `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"TELEMETRY","seq":0}`
	// inFlightAlready is the answer of a replicated stream to an id whose first copy is not
	// replicated yet.
	inFlightAlready = `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"TELEMETRY","seq":0}`
)

// take processes a message in its stream.
func (s *Server) take(m Message, from *socket) {
	if m.Number == 0 {
		s.lookUp(m, from)
		return
	}
	if s.refused(m, from) {
		return
	}
	key := m.Stream + " " + m.ID
	if first, ok := s.byID[key]; ok && s.now().Sub(first.stamp) <= DuplicateWindow {
		if first.number != m.Number {
			s.Dropping(m, first.number)
		}
		if first.Safe {
			s.Logf("the server has message %d already", m.Number)
			s.reply(from, m.reply, `{"stream":"TELEMETRY","seq":1,"duplicate": true}`)
		} else {
			s.reply(from, m.reply, inFlightAlready)
		}
		return
	}
	if m.Stream == Main && strings.HasPrefix(m.payload, "refuse") || strings.HasPrefix(m.payload, "never") {
		s.Logf("the server rejects message %d permanently", m.Number)
		s.reply(from, m.reply, refuseForGood)
		return
	}
	s.Logf("%s stores message %d", m.Stream, m.Number)
	s.Storing(m, from.link.client)
	c := &Copy{Stream: m.Stream, Subject: m.Subject, ID: m.ID, At: time.Now(), Life: from.link.client.Life}
	e := entry{Copy: c, number: m.Number, reply: m.reply, from: from, stamp: s.now()}
	s.byID[key] = e
	s.log = append(s.log, e)
	s.copies[m.Number] = append(s.copies[m.Number], c)
	if !s.Replicated {
		s.Commit(1)
	}
}

// Commit replicates the oldest n stored messages and answers them.
func (s *Server) Commit(n int) {
	for range n {
		if s.safe == len(s.log) || s.leaderless() {
			return
		}
		e := s.log[s.safe]
		s.safe++
		e.Safe = true
		s.reply(e.from, e.reply, `{"stream":"TELEMETRY","seq":1}`)
	}
}

// CommitAll replicates all messages.
func (s *Server) CommitAll() { s.Commit(len(s.log)) }

// reply sends an answer to the sender of the message, if it is still connected.
func (s *Server) reply(to *socket, subject, body string) {
	if s.client == nil || to.link != s.client.Link || !to.link.hears() {
		return
	}
	m := nats.Msg{Subject: subject, Data: []byte(body)}
	if body == "" {
		m.Header = nats.Header{"Status": {"503"}}
	}
	s.answers = append(s.answers, answer{m, strings.HasPrefix(body, `{"stream":"TELEMETRY","seq"`), time.Now()})
}

// Purge deletes all messages of the streams. The duplicate window keeps their ids.
func (s *Server) Purge() {
	for _, e := range s.log[:s.safe] {
		e.Purged = true
	}
	s.Logf("the streams are purged")
}
