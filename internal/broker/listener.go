package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// connectTimeout bounds the TLS handshake and the CONNECT of a new connection. mochi sets no deadline
// before the CONNECT.
const connectTimeout = 10 * time.Second

// conn is one client's network connection. Unless a comment says otherwise, only the goroutine that
// serves the connection uses its fields.
type conn struct {
	net.Conn          // TCP, or TLS over raw
	raw      net.Conn // TCP
	secure   bool
	broker   *Broker
	// identity and session are set before the client becomes known to others.
	identity identity
	session  *session
	// clean means that the session ends with the connection.
	clean bool
	// establishing means that this connection has locked sessions.establishing.
	establishing bool
	denied       bool // whether the ACL denied the current packet
	granted      []packets.Subscription
	decisions    map[permission]decision
	rate         rateLimit
	// takenOver means that another connection has taken over the session. It is set before done
	// is closed.
	takenOver atomic.Bool
	// takesOver means that the session had an open connection when this one started.
	takesOver bool

	closeOnce sync.Once
	closed    chan struct{} // closed by Close
	work      chan struct{} // wakes the writer; capacity 1
	writer    sync.WaitGroup
	// done is closed when the connection's goroutine has ended and all work for the client is
	// finished.
	done chan struct{}
}

func (c *conn) zone() Zone {
	if c.identity.device {
		return c.broker.options.Devices
	}
	return c.broker.options.Services
}

// Read reads the next chunk once the device's rate limit allows it.
func (c *conn) Read(p []byte) (int, error) {
	c.rate.pause(c.closed)
	n, err := c.Conn.Read(p)
	c.rate.begin()
	return n, err
}

// Close closes the socket without a TLS close_notify, which could block if the peer does not read.
func (c *conn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.raw.Close()
}

// end closes the connection and waits until the broker has finished with it. mochi's Client.Stop
// cannot be used: if it stops a client between two reads, mochi treats that as a normal disconnect
// and drops the will.
func (c *conn) end() {
	_ = c.Close()
	<-c.done
}

func (c *conn) wakeWriter() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// awaitWork waits for work. It returns false once the connection is closed.
func (c *conn) awaitWork() bool {
	select {
	case <-c.work:
		return true
	case <-c.closed:
		return false
	}
}

// listener implements mochi's Listener. It tracks when each connection has ended.
type listener struct {
	name string
	tls  *tls.Config // nil: plain
	net  net.Listener

	broker *Broker

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{}
	wg     sync.WaitGroup
}

// listen opens a listener and adds it to the server.
func listen(name, address string, config *tls.Config, b *Broker) (*listener, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open %s listener: %w", name, err)
	}
	l := &listener{name: name, tls: config, net: socket, broker: b, conns: make(map[*conn]struct{})}
	if err := b.server.AddListener(l); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return l, nil
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
		if l.tls != nil && !l.broker.gateOpen.Load() {
			_ = raw.Close() // in this state EMQX does not listen
			continue
		}
		c := l.newConn(raw)
		_ = raw.SetDeadline(time.Now().Add(connectTimeout))
		if !l.add(c) {
			_ = raw.Close()
			return
		}
		go func() {
			defer l.remove(c)
			// mochi's error contains the reason of the disconnect, which is not needed here.
			_ = establish(l.name, c)
		}()
	}
}

func (l *listener) newConn(raw net.Conn) *conn {
	c := &conn{
		Conn: raw, raw: raw, secure: l.tls != nil, broker: l.broker,
		decisions: make(map[permission]decision),
		closed:    make(chan struct{}), work: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if c.secure {
		c.Conn = tls.Server(raw, l.tls)
	}
	return c
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
	_ = c.Close() // in case mochi returned early
	c.writer.Wait()
	l.broker.disconnected(c)
	close(c.done)
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.wg.Done()
}

// Close closes the listener and all its connections, and waits until their goroutines have ended. It
// does not call mochi's CloseFn, which would send a DISCONNECT. In MQTT 3.1.1 only clients may send
// one.
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
