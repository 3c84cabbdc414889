package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/mqtt/dial"
)

// Options configure a session. Servers, ClientID, Filters and Receiver are required.
type Options struct {
	// Servers are listeners of one broker or cluster. They are tried in turn, starting with the
	// last one that worked.
	Servers []dial.Server
	// Login returns the credentials. It is called for each connection, so renewed certificates and
	// passwords need no restart. nil: no credentials.
	Login    func() (dial.Login, error)
	ClientID string // fixed: the broker's session belongs to it
	// KeepAlive is MQTT's keep-alive (§3.1.2.10), in whole seconds up to 65,535; 0: 30 s.
	KeepAlive time.Duration
	MaxPacket int // bytes per packet; a longer PUBLISH is delivered truncated
	// Linger delays a read when no data is waiting. This reduces wake-ups at low rates and adds up
	// to that much latency.
	Linger  time.Duration
	Filters []string // subscribed at QoS 1
	// Former are filters that an earlier configuration or version may have left in the session.
	// They are unsubscribed unless they are in Filters too.
	Former []string
	// FilterFile is the file that records, for the next process, which filters the broker's session
	// has; empty: no file. See filters.go.
	FilterFile string
	// Peers are the other sessions of this bridge; nil: none.
	Peers *Peers
	// Retiring means that the filters are unsubscribed instead of subscribed. The broker queues no
	// more messages in the session and delivers those already queued.
	Retiring bool
	// HadSession means that the broker had a session for this client id when an earlier process was
	// last connected. If the broker has none now, it has lost messages.
	HadSession bool
	// Claim decides whether this process may use the client id; nil: always.
	Claim    Claim
	Receiver bridge.Receiver
	Log      zerolog.Logger
	// Advice returns the advice on an error, for the log; nil: none.
	Advice func(error) string
}

// Claim controls the use of a client id that several processes use in turn.
type Claim interface {
	// WaitToConnect is called before each connection except the first. The previous connection may
	// have ended because another process now uses the client id, which MQTT 3.1.1 does not report.
	// WaitToConnect returns nil when the session may connect, and an error when ctx ends, which
	// includes closing the session.
	WaitToConnect(ctx context.Context) error
	// Fenced reports that nothing may be delivered from the connection's buffer until it returns
	// false. It is called once per read.
	Fenced() bool
}

func (o *Options) setDefaults() error {
	switch {
	case len(o.Servers) == 0 || slices.ContainsFunc(o.Servers, func(s dial.Server) bool { return s.Address == "" }):
		return errors.New("open MQTT session: no broker address")
	case o.ClientID == "":
		return errors.New("open MQTT session: no client id")
	case len(o.Filters) == 0:
		return errors.New("open MQTT session: no topic filter")
	case o.Receiver == nil:
		return errors.New("open MQTT session: no receiver")
	}
	// Remove duplicate filters: paho's filters are a map, and the SUBACK must have one code per
	// filter.
	var filters []string
	for _, f := range o.Filters {
		if !validFilter(f) {
			return fmt.Errorf("open MQTT session: %q is not a topic filter", f)
		}
		if !slices.Contains(filters, f) {
			filters = append(filters, f)
		}
	}
	o.Filters = filters
	if o.Peers == nil {
		o.Peers = NewPeers(1)
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = 30 * time.Second
	}
	// paho truncates to seconds, where 0 disables keep-alive, and then to 16 bits.
	o.KeepAlive = min(max(o.KeepAlive, time.Second), math.MaxUint16*time.Second)
	return nil
}

// validFilter checks the rules for wildcards (§4.7.1). A broker may answer an invalid filter by
// closing the connection, every time.
func validFilter(f string) bool {
	levels := strings.Split(f, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 || level == "#" && i < len(levels)-1 {
			return false
		}
	}
	return f != "" && len(f) <= math.MaxUint16
}

const (
	// answerTimeout bounds the wait for SUBACK and UNSUBACK.
	answerTimeout = 10 * time.Second
	// writerTimeout bounds how long SUBSCRIBE waits for paho's writer. paho's default is 30 s, all
	// of it lost if the connection ends at that moment (paho v1.5.1, client.go).
	writerTimeout = time.Second
	// closeTimeout bounds the disconnect from a broker that does not read.
	closeTimeout = time.Second
)

// Session keeps one MQTT session connected.
type Session struct {
	opts Options
	dial dialFunc
	// identify is called once per problem.
	identify identifyFunc
	cancel   context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex
	status   Status
	tap      *tap
	stopping bool
	watch    takeoverWatch
	closedAt time.Time // when the broker closed the previous connection; zero: it did not, or it was restarting
	// unansweredLeft is the number of further connections without an answer that count as taken
	// over.
	unansweredLeft int

	filters filterStore // used only by the goroutine that subscribes

	rotation serverRotation // used only by the goroutine that connects
}

// Open starts a session and returns immediately. Status and the log report the state of the
// connection.
func Open(opts Options) (*Session, error) {
	return open(opts, dial.Dial, dial.Identify)
}

// dialFunc opens a connection to a listener of the broker.
type dialFunc func(context.Context, dial.Server, *dial.Login) (net.Conn, error)

// identifyFunc detects the protocol at an address.
type identifyFunc func(ctx context.Context, address string) dial.Protocol

func open(opts Options, dial dialFunc, identify identifyFunc) (*Session, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Session{
		opts: opts,
		dial: dial, identify: identify,
		cancel: cancel,
		done:   make(chan struct{}),
		status: Status{ClientID: opts.ClientID, Since: time.Now(), Problem: "not connected yet"},

		unansweredLeft: unansweredEnds,
	}
	s.rotation.servers = opts.Servers
	s.filters.load(&s.opts)
	opts.Peers.join(opts.ClientID)
	go s.run(ctx)
	return s, nil
}

// run connects until the session is closed.
func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	defer s.setClosed()
	var wait backoff
	for ctx.Err() == nil {
		lived, err := s.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		s.setLost(lived, err)
		if s.rotation.advance(err) && !sleep.For(ctx, wait.next(time.Now(), lived, err)) {
			return
		}
		if c := s.opts.Claim; c != nil && c.WaitToConnect(ctx) != nil {
			return
		}
	}
}

// connection runs one connection: dial, CONNECT, SUBSCRIBE, deliver until it ends. lived is how
// long the broker kept it after CONNACK.
func (s *Session) connection(ctx context.Context) (lived time.Duration, err error) {
	var t *tap
	server := s.rotation.server()
	login, err := s.opts.credentials(server)
	if err != nil {
		return 0, s.rotation.note(err)
	}
	lost := make(chan error, 1)
	client := paho.NewClient(s.clientOptions(login, func() (net.Conn, error) {
		conn, err := s.dial(ctx, server, login)
		if err != nil {
			return nil, err
		}
		t = newTap(conn, &s.opts)
		if err := s.attach(ctx, t); err != nil {
			return nil, errors.Join(err, t.Close())
		}
		return t, nil
	}, lost))
	token := client.Connect().(*paho.ConnectToken)
	select {
	case <-token.Done():
	case <-ctx.Done():
		s.endHandshake()
		<-token.Done()
	}
	if err := token.Error(); err != nil {
		return 0, s.connectError(ctx, newAttempt(server, login, token.ReturnCode(), t, err))
	}
	connectedAt := time.Now()
	s.rotation.connected()
	s.setConnected(server, token.SessionPresent())
	stop := make(chan struct{})
	synced := make(chan error, 1)
	go func() { synced <- s.syncSubscriptions(client, t, stop, token.SessionPresent()) }()
	refused, pending := error(nil), synced
	for running := true; running; {
		select {
		case refused = <-pending:
			pending, running = nil, refused == nil
		case <-t.ended:
			running = false
		case <-ctx.Done():
			running = false
		}
	}
	close(stop) // before paho fails SUBSCRIBE, which would end the tap
	if refused != nil || ctx.Err() != nil {
		s.disconnect(client, t)
	}
	if pending != nil {
		refused = <-pending
	}
	lived = time.Since(connectedAt)
	switch err := ctx.Err(); {
	case err != nil:
		return lived, err // closed: the reason does not matter
	case refused != nil:
		return lived, refused
	}
	return lived, s.endedEarly(t, endReason(t, lost))
}

// connectError classifies a failed attempt.
func (s *Session) connectError(ctx context.Context, a *dial.Attempt) error {
	if p := a.Problem(nil); p.Cause == dial.CauseHungUp {
		if err := s.closedEarly(p); errors.Is(err, ErrClosedByBroker) {
			return err
		}
	}
	return s.rotation.note(a.Problem(func() dial.Protocol {
		return s.rotation.identified(a.Server.Address, func() dial.Protocol { return s.identify(ctx, a.Server.Address) })
	}))
}

func (s *Session) clientOptions(login *dial.Login, connect func() (net.Conn, error), lost chan<- error) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.AddBroker("tcp://tap") // never dialled: paho requires a server in its list
	o.SetClientID(s.opts.ClientID).SetUsername(login.Username).SetPassword(login.Password)
	o.SetProtocolVersion(4) // explicit: no silent fallback to 3.1
	o.SetCleanSession(false)
	o.SetAutoReconnect(false).SetConnectRetry(false)
	o.SetConnectTimeout(dial.ConnackTimeout)
	o.SetWriteTimeout(writerTimeout)
	o.SetKeepAlive(s.opts.KeepAlive)
	o.SetPingTimeout(min(s.opts.KeepAlive, 10*time.Second))
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return connect() })
	o.SetConnectionLostHandler(func(_ paho.Client, err error) {
		select {
		case lost <- err:
		default:
		}
	})
	return o
}

// attach makes t the session's current connection. If the session was closed during the dial, it
// returns an error and the caller must close t.
func (s *Session) attach(ctx context.Context, t *tap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	t.discard.Store(s.stopping)
	s.tap = t
	return nil
}

// Drain stops accepting new messages. The broker keeps them and resends them on the next
// connection. Messages already delivered can still be acknowledged.
func (s *Session) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.tap != nil {
		s.tap.discard.Store(true)
	}
}

// Close writes the pending PUBACKs, disconnects and waits. It does not unsubscribe, so the broker
// continues to queue for this client id. It takes about a second at most, longer only on a slow
// network.
func (s *Session) Close() {
	s.Drain()
	s.cancel()
	<-s.done
}

// endHandshake closes a connection that waits for CONNACK. After CONNACK, messages may already have
// been acknowledged. paho reports CONNACK immediately, and the connection then ends with
// DISCONNECT.
func (s *Session) endHandshake() {
	s.mu.Lock()
	t := s.tap
	s.mu.Unlock()
	if t != nil && !t.connected.Load() {
		t.Close()
	}
}

func (s *Session) disconnect(client paho.Client, t *tap) {
	timer := time.AfterFunc(closeTimeout, func() { t.closeSocket(errClosedHere) })
	defer timer.Stop()
	t.Flush()
	client.Disconnect(250)
	t.Close()
}
