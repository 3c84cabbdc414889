package publish

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/jetstream/conn"
)

// Link is the connection on which a publisher sends: nats.go's, or a simulated one.
type Link interface {
	// PublishMsg copies m into the write buffer. It does not retain m.
	PublishMsg(m *nats.Msg) error
	IsConnected() bool
	// Generation counts the sockets opened. It increases before any byte can be sent on the new
	// one.
	Generation() uint64
	// BeginSend is called before Generation is read and before the sends that rely on it, EndSend
	// after them. Nothing may be sent on a socket opened in between. open is false if a send would
	// wait for a connection attempt.
	BeginSend() (open bool)
	EndSend()
	LastError() error
	MaxPayload() int64
	Close()
}

// LinkHandlers are called by a link, from any goroutine.
type LinkHandlers struct {
	// Answer receives one answer. more is set if another is available.
	Answer func(m *nats.Msg, more bool)
	// Connected and Reconnected are called some time after the event: messages may already have
	// been sent on the new connection.
	Connected   func()
	Reconnected func()
	// Failed receives errors that the server sends without a request.
	Failed func(error)
	// Closed is called when the link no longer reconnects.
	Closed func(Link)
}

// natsLink is a connection of nats.go, with the dialer that counts its sockets.
type natsLink struct {
	*nats.Conn
	dialer *dialer
}

func (l natsLink) Generation() uint64 { return l.dialer.generation.Load() }

// IsConnected returns false while an attempt is in progress. That includes the time between its
// success and nats.go's callback, which the publisher waits for anyway.
func (l natsLink) IsConnected() bool { return !l.dialer.attempt.Load() && l.Conn.IsConnected() }

func (l natsLink) LastError() error {
	if err := l.dialer.recentEndReason(); err != nil {
		return err
	}
	if !l.dialer.attempt.Load() {
		return l.Conn.LastError()
	}
	if err := l.dialer.lastFailure.Load(); err != nil {
		return *err
	}
	return nil
}

// BeginSend implements [Link].
func (l natsLink) BeginSend() (open bool) {
	l.dialer.sending.Store(true)
	return !l.dialer.attempt.Load()
}

// EndSend implements [Link].
func (l natsLink) EndSend() { l.dialer.sending.Store(false) }

// openNATS returns a function that opens a nats.go link and returns it with its reply inbox, whose
// name ends in a dot.
func openNATS(connect func(...nats.Option) (*nats.Conn, error), d *dialer) func(LinkHandlers) (Link, string, error) {
	return func(h LinkHandlers) (Link, string, error) {
		nc, err := connect(
			nats.SetCustomDialer(d),
			nats.SkipHostLookup(),     // the dialer looks up hosts, see conn.Dial
			nats.ReconnectBufSize(-1), // the publisher keeps messages that cannot be sent
			nats.SkipSubjectValidation(),
			nats.FlusherTimeout(writeTimeout),
			nats.ReconnectOnFlusherError(),
			nats.ConnectHandler(func(*nats.Conn) {
				d.connectDone()
				h.Connected()
			}),
			nats.ReconnectHandler(func(*nats.Conn) {
				d.connectDone()
				h.Reconnected()
			}),
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { d.connectFailed(err) }),
			nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { d.connectFailed(err) }),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { h.Failed(err) }),
			nats.ClosedHandler(func(nc *nats.Conn) { h.Closed(natsLink{nc, d}) }),
		)
		if err != nil {
			return nil, "", err
		}
		inbox := nc.NewInbox() + "."
		sub, err := nc.Subscribe(inbox+">", func(m *nats.Msg) {
			// JetStream delivers a consumer's message to any inbox that was requested, under the
			// message's own subject, whose last tokens come from a device. That is not an answer.
			if !strings.HasPrefix(m.Subject, inbox) {
				return
			}
			// The current message still counts as pending.
			n, _, err := m.Sub.Pending()
			h.Answer(m, err == nil && n > 1)
		})
		if err == nil {
			// A dropped answer would cause a recovery.
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			nc.Close()
			return nil, "", fmt.Errorf("subscribe to the reply inbox: %w", err)
		}
		if nc.IsConnected() {
			d.connectDone() // nats.go calls its handler for the first attempt at some later time
		}
		// From here on answers are intercepted at the socket. The subscription remains: the server
		// must know the inbox, and other answers arrive through it ("no responders", which has a
		// header; TLS).
		d.sink.Store(conn.NewAckSink(inbox, h.Answer))
		return natsLink{nc, d}, inbox, nil
	}
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
	if link == p.closedLink { // closed before openLink returned it
		p.reopen()
	}
	return nil
}

// asyncError handles errors that the server sends without a request, in particular a permission
// violation on publish, which gets no other answer.
func (p *Publisher) asyncError(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if isLookupDenial(err) {
		if p.lookups.active {
			p.denyLookups(err)
		}
		return
	}
	p.denied = err
}

// connectionClosed opens a new connection after nats.go has closed one permanently, as it does on
// an unknown server error.
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
	p.withAdvice(p.opts.Log.Warn().Str("component", "nats"), p.link.LastError()).Msg("NATS connection closed permanently, opening another")
	p.reopening.Go(func() {
		for p.connect() != nil {
			select {
			case <-time.After(p.opts.Jitter(maxPause)):
			case <-p.closing:
				return
			}
		}
		p.reconnected()
	})
}
