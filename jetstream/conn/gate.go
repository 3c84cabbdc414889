package conn

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// gate wraps the dialer of one NATS connection. Before each attempt it reads the credentials and
// certificates again and closes the socket of the previous attempt: after a failed handshake
// nats.go 1.55 leaves it open until garbage collection. It also keeps why the last attempt failed,
// which nats.go does not always report: "connection refused" becomes "no servers available for
// connection" (Conn.connect), and a server's reason for a refusal is lost if the answer to its
// greeting cannot be written.
type gate struct {
	inner   nats.CustomDialer
	refresh func() error

	mu     sync.Mutex
	last   net.Conn // the last socket dialled; nil: none, or closed
	seen   *ackInterceptor
	failed error // of the last dial; nil: it succeeded, or there was none
	dials  int
	later  bool // until all servers were tried once, in the background
}

// errLater fails the first attempt, which nats.Connect makes before it returns.
var errLater = errors.New("not tried yet")

// wrap is a nats.Option that must be applied after all others.
func (g *gate) wrap(o *nats.Options) error {
	g.inner = o.CustomDialer
	if g.inner == nil {
		g.inner = plainDialer{o.Timeout}
	}
	o.CustomDialer = g
	return nil
}

// Dial implements nats.CustomDialer.
func (g *gate) Dial(network, address string) (net.Conn, error) {
	g.closeLast()
	g.mu.Lock()
	later := g.later
	g.dials++
	g.mu.Unlock()
	if later {
		return nil, errLater
	}
	conn, err := g.dial(network, address)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.failed = conn, err
	g.seen, _ = conn.(*ackInterceptor)
	return conn, err
}

func (g *gate) dial(network, address string) (net.Conn, error) {
	if err := g.refresh(); err != nil {
		return nil, err
	}
	return g.inner.Dial(network, address)
}

// closeLast closes the socket of an attempt that has failed.
func (g *gate) closeLast() {
	g.mu.Lock()
	last := g.last
	g.last = nil
	g.mu.Unlock()
	if last != nil {
		last.Close()
	}
}

// connectNow ends the wait of the first round and reports whether there was one.
func (g *gate) connectNow() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	waited := g.later
	g.later = false
	return waited
}

func (g *gate) dialled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials > 0
}

// dialError returns why the last dial failed; nil: it succeeded.
func (g *gate) dialError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

// evidence returns what the last server dialled has sent; nil: nothing.
func (g *gate) evidence() *evidence {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen == nil {
		return nil
	}
	return g.seen.seen.Load()
}

// plainDialer opens the sockets of a connection without a publisher.
type plainDialer struct{ timeout time.Duration }

// Dial implements nats.CustomDialer.
func (d plainDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := Dial(network, address, d.timeout)
	if err != nil {
		return nil, err
	}
	return Intercept(conn, noAnswers, nil, nil), nil
}

// noAnswers makes the interceptor take nothing off this connection.
func noAnswers() *AckSink { return nil }
