package publish

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/jetstream/conn"
)

// dialer opens the sockets of one NATS connection and counts them. nats.go tells
// of a reconnect through a handler that runs in its own time, after which new
// messages may already have gone out; the count is there before any byte of the
// new connection is, so a publisher that looks at it first sees every reconnect
// in time.
//
// Between the look and the write nats.go may reconnect: it dials under the very
// lock that the write waits for, and the message would go out on the new
// connection ahead of all that were lost with the old one (measured: 1 in 600
// cuts under load). So the publisher says that it is sending before it looks, and
// a connection that comes about meanwhile is given up again.
//
// That lock is also what nats.go's IsConnected and LastError wait for, up to the connect
// timeout where the server says nothing. So the dialer knows by itself that an attempt is
// under way, and whoever asks meanwhile has its answer at once.
type dialer struct {
	timeout    time.Duration
	inProcess  nats.InProcessConnProvider // not nil: instead of a socket
	generation atomic.Uint64
	sending    atomic.Bool
	sink       atomic.Pointer[conn.AckSink] // nil: answers come through nats.go
	fault      atomic.Pointer[fault]        // the latest; nil: none
	attempt    atomic.Bool                  // from a dial until its end, or until nats.go has told of the connection
	failure    atomic.Pointer[error]        // of the latest attempt that nats.go told of; nil: none
}

// over: the attempt has ended, in a connection or without.
func (d *dialer) over() { d.attempt.Store(false) }

// failed: nats.go has told why an attempt failed, or a connection ended.
func (d *dialer) failed(err error) {
	if err != nil {
		d.failure.Store(&err)
	}
}

// fault is why a connection had to end.
type fault struct {
	err error
	at  time.Time
}

// faultShown is how long a fault explains that there is no connection.
const faultShown = 10 * time.Second

func (d *dialer) note(err error) { d.fault.Store(&fault{err, time.Now()}) }

// recentFault is nil where there was none of late.
func (d *dialer) recentFault() error {
	if f := d.fault.Load(); f != nil && time.Since(f.at) < faultShown {
		return f.err
	}
	return nil
}

var errSending = errors.New("connection came about in the middle of sending")

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.attempt.Store(true)
	c, err := d.open(network, address)
	if err != nil {
		d.over()
		return nil, err
	}
	d.generation.Add(1)
	if d.sending.Load() {
		d.over()
		c.Close()
		return nil, errSending
	}
	return conn.Intercept(c, d.sink.Load, d.note, d.over), nil
}

// open leaves it to nobody else to connect within the process: nats.go, given the
// server, would go past this dialer, and connections would neither be counted nor
// their answers taken off.
func (d *dialer) open(network, address string) (net.Conn, error) {
	if d.inProcess != nil {
		return d.inProcess.InProcessConn()
	}
	socket, err := conn.Dial(network, address, d.timeout)
	if tcp, ok := socket.(*net.TCPConn); ok {
		// What is not on its way when the connection is closed stays here. The kernel
		// would go on sending it for minutes, perhaps until JetStream has forgotten that it
		// has the message; the publisher sends it again in time.
		if err = tcp.SetLinger(0); err != nil {
			socket.Close()
		}
	}
	return socket, err
}
