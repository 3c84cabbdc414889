package conn

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// gate wraps the dialer of one NATS connection. Before each attempt it reads the credentials and
// certificates again, and closes the socket of the previous attempt: after a failed handshake
// nats.go 1.55 leaves it open until garbage collection.
//
// It also keeps the reason why the last attempt failed, which nats.go does not always report:
// "connection refused" becomes "no servers available for connection" (Conn.connect). A server's
// reason for a refusal is lost if the answer to its greeting cannot be written.
type gate struct {
	inner   nats.CustomDialer
	refresh func() error

	mu          sync.Mutex
	lastSocket  net.Conn // the last socket dialled; nil: none, or closed
	interceptor *ackInterceptor
	dialErr     error // of the last dial; nil: it succeeded, or there was none
	dials       int
	deferred    bool // nothing is dialled until nats.Connect has tried all servers once
}

// errDeferred fails the attempts of nats.Connect, so that it returns without waiting for a server.
var errDeferred = errors.New("not tried yet")

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
	deferred := g.deferred
	g.dials++
	g.mu.Unlock()
	if deferred {
		return nil, errDeferred
	}
	conn, err := g.dial(network, address)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastSocket, g.dialErr = conn, err
	g.interceptor, _ = conn.(*ackInterceptor)
	return conn, err
}

func (g *gate) dial(network, address string) (net.Conn, error) {
	if err := g.refresh(); err != nil {
		return nil, err
	}
	return g.inner.Dial(network, address)
}

// closeLast closes the socket of a failed attempt.
func (g *gate) closeLast() {
	g.mu.Lock()
	socket := g.lastSocket
	g.lastSocket = nil
	g.mu.Unlock()
	if socket != nil {
		socket.Close()
	}
}

// endDeferral lets the next attempt dial, and reports whether attempts were deferred.
func (g *gate) endDeferral() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	deferred := g.deferred
	g.deferred = false
	return deferred
}

func (g *gate) dialled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials > 0
}

// dialError returns why the last dial failed; nil if it succeeded.
func (g *gate) dialError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dialErr
}

// lastOutput returns what the last server dialled has sent; nil if nothing.
func (g *gate) lastOutput() *serverOutput {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.interceptor == nil {
		return nil
	}
	return g.interceptor.seen.Load()
}

// plainDialer opens the sockets of connections other than a publisher's.
type plainDialer struct{ timeout time.Duration }

// Dial implements nats.CustomDialer.
func (d plainDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := Dial(network, address, d.timeout)
	if err != nil {
		return nil, err
	}
	return Intercept(conn, noAnswers, nil, nil), nil
}

// noAnswers makes the interceptor take nothing off the connection.
func noAnswers() *AckSink { return nil }
