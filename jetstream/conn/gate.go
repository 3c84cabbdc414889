package conn

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
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

	dialled  atomic.Bool // Dial was called
	deferred atomic.Bool // nothing is dialled until nats.Connect has tried all servers once

	mu          sync.Mutex
	lastSocket  net.Conn // the last socket dialled; nil: none, or closed
	interceptor *ackInterceptor
	dialErr     error // of the last dial; nil: it succeeded, or there was none
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
	g.dialled.Store(true)
	if g.deferred.Load() {
		return nil, errDeferred
	}
	var socket net.Conn
	err := g.refresh()
	if err == nil {
		socket, err = g.inner.Dial(network, address)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastSocket, g.dialErr = socket, err
	g.interceptor, _ = socket.(*ackInterceptor)
	return socket, err
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

// lastAttempt returns what the server dialled last has sent, nil if nothing, and why the dial
// failed, nil if it succeeded.
func (g *gate) lastAttempt() (seen *serverOutput, dialErr error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.interceptor != nil {
		seen = g.interceptor.seen.Load()
	}
	return seen, g.dialErr
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
