// Package publish is the ordered publisher. It sends messages in the order of their Publish calls
// and keeps each one until JetStream has stored it or refused it permanently.
package publish

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/conn"
)

// Options configure a publisher. Settler and either Connect or Open are required.
type Options struct {
	// Connect opens the publisher's own connection. The options passed to it take precedence over
	// its own.
	Connect func(...nats.Option) (*nats.Conn, error)
	// InProcess connects to this server within the process instead of dialling. Connect must not
	// set its own.
	InProcess nats.InProcessConnProvider
	// Open opens another kind of link and returns the prefix of its reply subjects.
	Open    func(LinkHandlers) (Link, string, error)
	Settler bridge.Settler
	// AckTimeout is how long the oldest message may remain unanswered before the publisher goes
	// back to it. 0 means 3 s. A longer timeout risks the order on a replicated stream:
	// nats-server's shortest election takes 4 s, and the new leader may lack messages of the old
	// one.
	AckTimeout time.Duration
	// StrictOrder sends a message only when the previous one with the same OrderKey (of the same
	// device) has its final answer. This keeps the order even if servers drop messages, and costs
	// one round trip per message and key.
	StrictOrder bool
	// MaxInFlight bounds the messages sent and not answered. 0 means 4,096. nats-server refuses
	// more than 10,000 messages waiting for one stream (error 10167).
	MaxInFlight int
	// MaxBytesInFlight bounds these messages in bytes, so that a stalled server causes a missing
	// answer instead of a blocked write. 0 means 8 MiB.
	MaxBytesInFlight int
	// NoStreamForSubject is called when a message has had no responders for a while. It reports
	// whether it is certain that no stream has the subject although streams have others of its
	// kind. The message is then refused. It may query the server. nil: such messages wait.
	NoStreamForSubject func(subject string) bool
	// Fenced reports whether resending is currently forbidden, because JetStream may have forgotten
	// the message's id and would store it twice. Before the first answer it also forbids the first
	// send, because the streams may not exist yet. nil: never. It is called under the publisher's
	// lock and must not block.
	Fenced func() bool
	// Lookup enables lookups of messages to be resent that JetStream may have forgotten. nil: they
	// are resent without a lookup.
	Lookup *LookupOptions
	// Jitter randomizes a pause; nil: by up to half in either direction.
	Jitter func(time.Duration) time.Duration
	// AfterFunc creates the publisher's timer; nil: time.AfterFunc. The simulation delays it, as in
	// a suspended process.
	AfterFunc func(time.Duration, func()) *time.Timer
	// Advice returns the advice on a problem, for the log; nil: none.
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
	o.AckTimeout = cmp.Or(max(o.AckTimeout, 0), 3*time.Second)
	o.MaxInFlight = cmp.Or(max(o.MaxInFlight, 0), 4096)
	o.MaxBytesInFlight = cmp.Or(max(o.MaxBytesInFlight, 0), 8<<20)
	return nil
}

// Publisher stores messages in JetStream in the order of its Publish calls, each exactly once,
// despite failures of the connection and the servers. It uses go-back-N (recovery.go).
type Publisher struct {
	opts  Options
	link  Link
	inbox string // prefix of reply subjects, followed by number and attempt

	// calls is read-locked during calls of the settler. It is locked before mu.
	calls sync.RWMutex

	mu           sync.Mutex
	win          window
	generation   uint64    // of the connection on which the window was sent
	progress     time.Time // when the oldest message became the oldest, or was sent
	refused      []refusal // refused by nats.go itself, not reported yet
	recovery     recovery
	lookups      lookups
	proven       bool         // the streams have stored a message
	denied       error        // the latest permission violation reported by the server
	inFlightKeys inFlightKeys // nil: no strict order
	timer        *time.Timer
	armed        bool
	due          time.Time // when the timer fires
	closed       bool
	closing      chan struct{} // closed by Close
	stats        Stats
	reopening    sync.WaitGroup
	closedLink   Link // closed permanently; differs from link, or is not link yet

	// Scratch space of send, under mu.
	msg       nats.Msg
	values    [maxHeaders + 1][1]string
	names     [maxHeaders + 1]string // in msg's header, by index of values; the id's comes first, "" if there is none
	nameCount int                    // number of names
	reply     []byte
	scratch   bridge.Message
}

// refusal is a message that nats.go refused to send.
type refusal struct {
	seq uint64
	err error
}

// Stats are the counters since the publisher was opened, and its current state.
type Stats struct {
	Sent       uint64 `json:"sent"`
	Resent     uint64 `json:"resent"`
	Recoveries uint64 `json:"recoveries"`
	Connects   uint64 `json:"connects"` // sockets opened
	// Lookups counts the subjects looked up, Found the messages that were found stored.
	Lookups uint64 `json:"lookups"`
	Found   uint64 `json:"found"`
	// LookupProblem is the reason why lookups fail; empty if they work, or if none was needed on
	// this connection.
	LookupProblem string `json:"lookup_problem,omitempty"`
	Unsettled     int    `json:"unsettled"`
	Connected     bool   `json:"connected"`
	// Problem is the reason why nothing is stored; empty while messages are stored. Err is the
	// underlying error.
	Problem string    `json:"problem,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Err     error     `json:"-"`
	// Subject is the subject of the message that has waited longest.
	Subject string `json:"subject,omitempty"`
}

// Open opens a publisher and its connection. With nats.RetryOnFailedConnect the connection may be
// established later.
func Open(opts Options) (*Publisher, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	p := &Publisher{opts: opts, win: newWindow(), closing: make(chan struct{})}
	if opts.StrictOrder {
		p.inFlightKeys = inFlightKeys{}
	}
	p.recovery.attempt = 1
	// Up to eight entries form one group of a Go map, which is iterated and cleared faster than a
	// table. A ninth is rare: a quarantined message with every possible header.
	p.msg.Header = make(nats.Header, 8)
	p.timer = opts.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	if err := p.connect(); err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	return p, nil
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

// Stats returns the counters and the current state.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Connects = p.link.Generation()
	s.Unsettled = p.win.len()
	s.Connected = p.link.IsConnected()
	if p.lookupsDenied() {
		s.LookupProblem = p.lookups.denied.Error()
	}
	if p.recovery.active {
		s.Problem, s.Since, s.Err = p.recovery.problem.Error(), p.recovery.since, p.recovery.problem
		if serverErr, ok := errors.AsType[conn.ServerError](p.link.LastError()); ok {
			s.Problem += ": " + serverErr.Error()
		}
		if e := p.win.unanswered(p.win.head); e != nil {
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

// MaxPayload returns the maximum message size that the server accepts, headers included, in bytes;
// 0 if it is not known yet.
func (p *Publisher) MaxPayload() int64 {
	p.mu.Lock()
	link := p.link
	p.mu.Unlock()
	if !link.IsConnected() {
		return 0
	}
	return link.MaxPayload()
}

// Close ends the publisher and its connection. Unsettled messages are not reported. When Close
// returns, no call of the settler is in progress, and none follows. The settler must not call
// Close.
func (p *Publisher) Close() {
	p.mu.Lock()
	if !p.closed {
		close(p.closing)
	}
	p.closed = true
	p.timer.Stop()
	link := p.link
	p.mu.Unlock()
	link.Close()
	p.reopening.Wait()
	p.calls.Lock() // waits for those in progress
	defer p.calls.Unlock()
}
