package broker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// connectTimeout is how long a new connection may take for its TLS handshake and
// CONNECT; mochi sets no deadline before the CONNECT.
const connectTimeout = 10 * time.Second

// conn is one client's network connection. All fields but done belong to the
// goroutine that serves it; identity is set before the client becomes known to
// others.
type conn struct {
	net.Conn          // TCP, or TLS over raw
	raw      net.Conn // TCP
	secure   bool
	identity identity
	hold     hold
	// subscribeID is the packet id of the SUBSCRIBE being answered.
	subscribeID uint16
	// unsent are the packet ids that this session collected while no
	// connection was there: their resending is their first sending.
	unsent map[uint16]struct{}
	// done is closed when the connection's goroutine has ended, with
	// everything that mochi does on behalf of the client.
	done chan struct{}
}

// Close closes the socket without a TLS goodbye, which could block on a peer
// that does not read.
func (c *conn) Close() error { return c.raw.Close() }

// hold is what a connection's goroutine holds of the broker's gate.
type hold int

const (
	holdNone hold = iota
	holdShared
	holdExclusive
)

// gate lets publishes through side by side, but none while a session is being
// established or handed over.
type gate struct{ mu sync.RWMutex }

func (g *gate) share(c *conn) {
	if c.hold == holdNone {
		g.mu.RLock()
		c.hold = holdShared
	}
}

func (g *gate) close(c *conn) {
	g.mu.Lock()
	c.hold = holdExclusive
}

func (g *gate) release(c *conn) {
	switch c.hold {
	case holdShared:
		g.mu.RUnlock()
	case holdExclusive:
		g.mu.Unlock()
	}
	c.hold = holdNone
}

// listener is mochi's Listener, with connections that know when they have ended.
type listener struct {
	name string
	tls  *tls.Config // nil: plain
	gate *gate
	net  net.Listener

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{}
	wg     sync.WaitGroup
}

func listen(name, address string, config *tls.Config, g *gate) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open %s listener: %w", name, err)
	}
	return &listener{name: name, tls: config, gate: g, net: l, conns: make(map[*conn]struct{})}, nil
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return l.name }
func (l *listener) Address() string         { return l.net.Addr().String() }
func (l *listener) Protocol() string        { return "tcp" }

// Serve accepts connections until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		raw, err := l.net.Accept()
		if err != nil {
			return
		}
		c := &conn{Conn: raw, raw: raw, secure: l.tls != nil, done: make(chan struct{})}
		if c.secure {
			c.Conn = tls.Server(raw, l.tls)
		}
		_ = raw.SetDeadline(time.Now().Add(connectTimeout))
		if !l.add(c) {
			_ = raw.Close()
			return
		}
		go func() {
			defer l.remove(c)
			// mochi's error says why the client left: of no use here.
			_ = establish(l.name, c)
		}()
	}
}

func (l *listener) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[c] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) remove(c *conn) {
	// Wherever mochi returned early, the gate is let go here.
	l.gate.release(c)
	close(c.done)
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.wg.Done()
}

// Close closes the listener and all its connections, and waits until their
// goroutines have ended. mochi's own closing is left out: it would send a
// DISCONNECT, which MQTT 3.1.1 does not know in that direction.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	_ = l.net.Close()
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}
