// Package publish is the ordered publisher. It sends messages in the order of their Publish calls
// and keeps each one until JetStream has stored it or refused it permanently.
package publish

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/conn"
)

// Options describes a publisher. Settler and either Connect or Open are required.
type Options struct {
	// Connect opens the publisher's own connection. The options passed to it take precedence over
	// its own.
	Connect func(...nats.Option) (*nats.Conn, error)
	// InProcess connects to this server within the process instead of dialling; Connect's own
	// options must not name one.
	InProcess nats.InProcessConnProvider
	// Open opens another kind of link and returns the prefix of its reply subjects.
	Open    func(LinkHandlers) (Link, string, error)
	Settler bridge.Settler
	// AckTimeout is how long the oldest message may remain unanswered before the publisher goes
	// back to it; 0: 3 s. A longer timeout risks the order on a replicated stream: nats-server's
	// shortest election takes 4 s, and the new leader may lack messages of the old one.
	AckTimeout time.Duration
	// StrictOrder sends a message only when the one before with the same OrderKey
	// (a device's) has its final answer. The order is then kept even if
	// servers drop messages, at the price of one message per round trip for each key.
	StrictOrder bool
	// MaxInFlight bounds the messages sent and not answered; 0: 4,096. nats-server refuses more
	// than 10,000 messages waiting for one stream (error 10167).
	MaxInFlight int
	// MaxBytesInFlight bounds them in bytes, so that a stalled server shows as a missing answer,
	// not as a blocked write; 0: 8 MiB.
	MaxBytesInFlight int
	// NoStreamForSubject is called when a message has had no responders for a while. It reports
	// whether it is certain that no stream has the subject although streams have others of its
	// kind. The message is then refused. It may ask the server. nil: such messages wait.
	NoStreamForSubject func(subject string) bool
	// Fenced reports that nothing may be sent a second time at present: JetStream may have
	// forgotten its id and would store it twice. Nor may anything be sent before the first answer:
	// the streams may not exist yet. nil: no such restriction. It is called under the publisher's
	// lock and must not block.
	Fenced func() bool
	// Lookup enables lookups of messages to be resent that JetStream may have forgotten; nil: they
	// are sent.
	Lookup *LookupOptions
	// Jitter randomises a pause; nil: by up to half either way.
	Jitter func(time.Duration) time.Duration
	// AfterFunc creates the publisher's timer; nil: time.AfterFunc. The simulation delays it, as in
	// a process that does not run.
	AfterFunc func(time.Duration, func()) *time.Timer
	// Advice returns what can be done about a problem, for the log; nil: none.
	Advice func(error) string
	Log    zerolog.Logger
}

func (o *Options) setDefaults() error {
	if o.Connect == nil && o.Open == nil || o.Settler == nil {
		return errors.New("open publisher: Connect and Settler are required")
	}
	if o.Open == nil {
		o.Open = openNATS(o.Connect, &dialer{timeout: 5 * time.Second, inProcess: o.InProcess})
	}
	if o.Jitter == nil {
		o.Jitter = jitter
	}
	if o.AfterFunc == nil {
		o.AfterFunc = time.AfterFunc
	}
	if o.AckTimeout <= 0 {
		o.AckTimeout = 3 * time.Second
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 4096
	}
	if o.MaxBytesInFlight <= 0 {
		o.MaxBytesInFlight = 8 << 20
	}
	return nil
}

// writeTimeout bounds a write to a server that has stopped reading, and so the duration of Publish.
const writeTimeout = 2 * time.Second

// Publisher stores messages in JetStream in the order of its Publish calls, each exactly once,
// despite failures of the connection and the servers: it uses go-back-N (recovery.go).
type Publisher struct {
	opts  Options
	link  Link
	inbox string // reply subjects are inbox, number and attempt

	// calls is read-locked around calls of the settler. It is locked
	// before mu.
	calls sync.RWMutex

	mu           sync.Mutex
	win          window
	generation   uint64    // of the connection on which the window was sent
	progress     time.Time // when the oldest message became the oldest, or was sent
	refused      []refusal // by nats.go itself, not reported yet
	recovery     recovery
	looking      lookups
	proven       bool         // the streams have stored a message
	denied       error        // the latest permission violation that the server has reported
	inFlightKeys inFlightKeys // nil: no strict order
	timer        *time.Timer
	armed        bool
	due          time.Time // the timer
	closed       bool
	stats        Stats
	reopening    sync.WaitGroup
	closedLink   Link // was closed permanently; not, or not yet, link

	// Scratch of send, under mu.
	msg     nats.Msg
	values  [maxHeaders + 1][1]string
	names   [maxHeaders + 1]string // in msg's header, by value; the id's comes first, "": it has none
	named   int                    // number of names
	reply   []byte
	scratch bridge.Message
}

// refusal is a message that nats.go refused to send.
type refusal struct {
	seq uint64
	err error
}

// Stats counts since the publisher was opened.
type Stats struct {
	Sent       uint64 `json:"sent"`
	Resent     uint64 `json:"resent"`
	Recoveries uint64 `json:"recoveries"`
	Connects   uint64 `json:"connects"` // sockets opened
	// Lookups counts the subjects looked up, Found the messages that turned out to be stored.
	Lookups uint64 `json:"lookups"`
	Found   uint64 `json:"found"`
	// LookupProblem is why lookups fail; empty: they do not, or none was needed on this connection.
	LookupProblem string `json:"lookup_problem,omitempty"`
	Unsettled     int    `json:"unsettled"`
	Connected     bool   `json:"connected"`
	// Problem is why nothing is stored at present; empty while messages are stored. Err is the
	// error behind it.
	Problem string    `json:"problem,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Err     error     `json:"-"`
	// Subject is the subject of the message that waits longest.
	Subject string `json:"subject,omitempty"`
}

// Open opens a publisher and its connection. With
// nats.RetryOnFailedConnect the connection may be established later.
func Open(opts Options) (*Publisher, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	p := &Publisher{opts: opts, win: newWindow()}
	if opts.StrictOrder {
		p.inFlightKeys = inFlightKeys{}
	}
	p.recovery.attempt = 1
	// Up to eight entries are one group of a Go map, which is iterated and cleared faster than a
	// table. A ninth is rare: a quarantined message with every header there is.
	p.msg.Header = make(nats.Header, 8)
	p.timer = opts.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	if err := p.connect(); err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	return p, nil
}

// connect opens the link.
func (p *Publisher) connect() error {
	link, inbox, err := p.opts.Open(LinkHandlers{
		Answer: p.answer, Connected: p.probeNow, Reconnected: p.reconnected,
		Failed: p.asyncError, Closed: p.connectionClosed,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		link.Close()
		return nats.ErrConnectionClosed
	}
	p.link, p.inbox = link, inbox
	if link == p.closedLink { // before openLink returned it
		p.reopen()
	}
	return nil
}

// asyncError handles errors that the server sends without a request, above all a permission
// violation on publish, for which there is no other answer.
func (p *Publisher) asyncError(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if isLookupDenial(err) {
		if p.looking.active {
			p.denyLookups(err)
		}
		return
	}
	p.denied = err
}

// connectionClosed opens a new connection after nats.go has closed one permanently, as it does on a
// server error that it does not know.
func (p *Publisher) connectionClosed(link Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case link != p.link:
		p.closedLink = link
	default:
		p.reopen()
	}
}

// reopen replaces a connection that was closed permanently.
func (p *Publisher) reopen() {
	p.opts.Log.Warn().Str("component", "nats").AnErr("problem", p.link.LastError()).Msg("NATS connection closed permanently, opening another")
	p.reopening.Go(func() {
		for p.connect() != nil {
			time.Sleep(p.opts.Jitter(maxPause))
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed {
				return
			}
		}
		p.reconnected()
	})
}

// Publish implements [bridge.Publisher]. After Close it does nothing.
func (p *Publisher) Publish(m *bridge.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.win.len() == 0 {
		p.progress = time.Now()
	}
	p.win.push(m)
	if !p.recovery.active {
		p.pump()
	}
	p.arm(p.opts.AckTimeout)
}

func (p *Publisher) fenced() bool { return p.opts.Fenced != nil && p.opts.Fenced() }

// pump sends waiting messages in order, as far as the bounds allow.
func (p *Publisher) pump() {
	if p.looking.active {
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
		if e := p.win.at(p.win.next); !e.first.IsZero() && p.mayBeForgotten(e, time.Now()) && p.lookUp(p.win.next) {
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
	if e.first.IsZero() {
		e.first = p.progress
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

// setHeader sets the header of p.msg. The messages of a lane mostly have the same names: then only the
// values change, and the map needs not be cleared and filled, 0.1 µs for three of them.
func (p *Publisher) setHeader(m *bridge.Message) {
	id := ""
	if len(m.ID) > 0 {
		id = nats.MsgIdHdr
	}
	same := p.named == 1+len(m.Headers) && p.names[0] == id
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
	p.named, p.names[0] = 1+len(m.Headers), id
	if id != "" {
		h[id] = p.values[0][:]
	}
	for i, x := range m.Headers {
		p.names[i+1] = x.Name
		h[x.Name] = p.values[i+1][:]
	}
}

// alias returns b as a string without copying. nats.go copies a message into its write buffer
// before PublishMsg returns and does not keep it.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// sendFailed handles a message that nats.go refused, and reports whether others may still be sent.
func (p *Publisher) sendFailed(seq uint64, err error) (goOn bool) {
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

// answer handles JetStream's answer to one message. It runs on the goroutine of the inbox
// subscription.
func (p *Publisher) answer(m *nats.Msg, more bool) {
	p.calls.RLock()
	defer p.calls.RUnlock()
	open := true
	seq, attempt, ok := parseReply(m.Subject)
	if !ok {
		open = p.lookedUp(m)
	} else {
		duplicate, err := parsePubAck(m)
		open = p.answered(seq, attempt, duplicate, err)
	}
	if open && !more {
		p.opts.Settler.SettleDone()
	}
}

// parseReply reads number and attempt, the last two tokens of a reply subject.
func parseReply(s string) (seq uint64, attempt uint32, ok bool) {
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return 0, 0, false
	}
	last, err1 := strconv.ParseUint(s[dot+1:], 36, 32)
	s = s[:dot]
	seq, err2 := strconv.ParseUint(s[strings.LastIndexByte(s, '.')+1:], 36, 64)
	return seq, uint32(last), err1 == nil && err2 == nil
}

// answered applies an answer. A positive one counts whichever attempt it
// answers; a negative one only if it answers the latest. It reports false once
// the publisher is closed.
func (p *Publisher) answered(seq uint64, attempt uint32, duplicate bool, err error) (open bool) {
	p.mu.Lock()
	e := p.win.waiting(seq)
	if p.closed || e == nil || err != nil && attempt != e.attempt {
		open = !p.closed
		p.mu.Unlock()
		return open
	}
	now := time.Now() // once per message: the lane needs it too
	result := bridge.Result{Token: e.token, At: now.UnixNano(), Duplicate: duplicate}
	if err != nil {
		if Classify(err) != Reject || e.lastResort {
			p.refusedForNow(seq, err)
			p.mu.Unlock()
			return true
		}
		result.Refused, result.Message = err, e.clone()
	}
	p.proven = p.proven || err == nil
	p.settled(seq, attempt, now)
	p.mu.Unlock()
	p.opts.Settler.Settle(&result)
	return true
}

// settled removes a message from the window and sends those that may follow. attempt is the one
// that was answered; 0: the server was not asked.
func (p *Publisher) settled(seq uint64, attempt uint32, now time.Time) {
	head := p.win.head
	p.inFlightKeys.end(p.win.at(seq))
	p.win.settle(seq)
	if p.win.head != head {
		p.progress = now
		p.headSettled(attempt)
	}
	if !p.recovery.active && p.win.next < p.win.tail {
		p.pump()
	}
}

// reportRefused settles the messages that nats.go refused to send.
func (p *Publisher) reportRefused() {
	for {
		p.mu.Lock()
		if len(p.refused) == 0 || p.closed {
			p.mu.Unlock()
			return
		}
		r := p.refused[0]
		p.refused = p.refused[1:]
		e := p.win.waiting(r.seq)
		if e == nil {
			p.mu.Unlock()
			continue
		}
		result := bridge.Result{Token: e.token, Refused: r.err, Message: e.clone()}
		p.settled(r.seq, 0, time.Now())
		p.mu.Unlock()
		p.opts.Settler.Settle(&result)
		p.opts.Settler.SettleDone()
	}
}

// Stats returns the counts and the present state.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Connects = p.link.Generation()
	s.Unsettled = p.win.len()
	s.Connected = p.link.IsConnected()
	if p.lookupsDenied() {
		s.LookupProblem = p.looking.denied.Error()
	}
	if p.recovery.active {
		s.Problem, s.Since, s.Err = p.recovery.problem.Error(), p.recovery.since, p.recovery.problem
		if why := conn.ServerError(""); errors.As(p.link.LastError(), &why) {
			s.Problem += ": " + why.Error()
		}
		if e := p.win.waiting(p.win.head); e != nil {
			s.Subject = string(e.buf[:e.subject])
		}
	} else if !s.Connected {
		s.Problem, s.Err = conn.ErrDisconnected.Error(), conn.ErrDisconnected
		if err := p.link.LastError(); err != nil {
			s.Problem += ": " + err.Error()
		}
	}
	return s
}

// MaxPayload returns the largest message that the server accepts, headers included, in bytes; 0:
// not known yet.
func (p *Publisher) MaxPayload() int64 {
	p.mu.Lock()
	link := p.link
	p.mu.Unlock()
	if !link.IsConnected() {
		return 0
	}
	return link.MaxPayload()
}

// Close ends the publisher and its connection. Unsettled messages are not reported: when Close
// returns, no call of the settler is in progress, and none follows. The settler must not call
// Close.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.closed = true
	p.timer.Stop()
	link := p.link
	p.mu.Unlock()
	link.Close()
	p.reopening.Wait()
	p.calls.Lock() // waits for those in progress
	defer p.calls.Unlock()
}
