package publish

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/jetstream/conn"
)

// dialer opens the sockets of one NATS connection and counts them. nats.go reports a
// reconnect through an asynchronous handler, and new messages may go out before
// it runs. The count grows before any byte of the new connection is sent, so a
// publisher that reads it first notices every reconnect in time.
//
// Between that read and the write nats.go may reconnect: it dials under the same
// lock that the write waits for, and the message would go out on the new
// connection ahead of all that were lost with the old one (measured: 1 in 600
// cuts under load). So the publisher calls BeginSend before it reads the count, and
// a connection that is established before EndSend is closed again.
//
// nats.go's IsConnected and LastError wait for that lock too, up to the connect
// timeout if the server does not answer. So the dialer itself records that an attempt is
// in progress, and callers get their answer immediately.
type dialer struct {
	timeout    time.Duration
	inProcess  nats.InProcessConnProvider // not nil: instead of a socket
	generation atomic.Uint64
	sending    atomic.Bool
	sink       atomic.Pointer[conn.AckSink] // nil: answers come through nats.go
	fault      atomic.Pointer[fault]        // the latest; nil: none
	attempt    atomic.Bool                  // from a dial until its end, or until nats.go has reported the connection
	failure    atomic.Pointer[error]        // of the latest attempt that nats.go reported; nil: none
}

// connectDone records that the attempt has ended, with or without a connection.
func (d *dialer) connectDone() { d.attempt.Store(false) }

// connectFailed records why an attempt failed or a connection ended, as reported by nats.go.
func (d *dialer) connectFailed(err error) {
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

// recentFault returns the fault of the last moments; nil: there was none.
func (d *dialer) recentFault() error {
	if f := d.fault.Load(); f != nil && time.Since(f.at) < faultShown {
		return f.err
	}
	return nil
}

var errSending = errors.New("connection established in the middle of a send")

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.attempt.Store(true)
	c, err := d.open(network, address)
	if err != nil {
		d.connectDone()
		return nil, err
	}
	d.generation.Add(1)
	if d.sending.Load() {
		d.connectDone()
		c.Close()
		return nil, errSending
	}
	return conn.Intercept(c, d.sink.Load, d.note, d.connectDone), nil
}

// open also connects within the process: nats.go, given the
// server, would bypass this dialer, and connections would not be counted nor
// their answers intercepted.
func (d *dialer) open(network, address string) (net.Conn, error) {
	if d.inProcess != nil {
		return d.inProcess.InProcessConn()
	}
	socket, err := conn.Dial(network, address, d.timeout)
	if tcp, ok := socket.(*net.TCPConn); ok {
		// Discard unsent data when the connection is closed. Otherwise the kernel
		// would go on sending it for minutes, perhaps until JetStream has forgotten that it
		// has the message; the publisher sends it again in time.
		if err = tcp.SetLinger(0); err != nil {
			socket.Close()
		}
	}
	return socket, err
}
