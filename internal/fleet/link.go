package fleet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"mqtt-nats-bridge/internal/wire"
)

// timeout bounds the TCP and TLS handshakes together with the wait for CONNACK, and each write.
const timeout = 10 * time.Second

// ErrNoAnswer means that the broker has sent nothing for one and a half keep-alive intervals, or that
// PUBACKs were still missing after Drain.
var ErrNoAnswer = errors.New("the broker does not answer")

// link is one connection of a device to the broker.
type link struct {
	conn    net.Conn
	raw     net.Conn // below TLS
	present bool     // session-present flag of the CONNACK
	done    chan struct{}
	err     error // why it ended; set before done is closed
}

// open connects and calls read with every packet, in a goroutine that ends with the connection.
func open(ctx context.Context, o *Options, read func(first byte, body []byte)) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l := &link{done: make(chan struct{})}
	var err error
	if l.raw, err = new(net.Dialer).DialContext(ctx, "tcp", o.Address); err != nil {
		return nil, err
	}
	l.conn = l.raw
	fail := func(err error) (*link, error) {
		l.raw.Close()
		return nil, err
	}
	if o.TLS != nil {
		config := o.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(o.Address)
		}
		secure := tls.Client(l.raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fail(fmt.Errorf("TLS handshake: %w", err))
		}
		l.conn = secure
	}
	// The end of ctx interrupts the wait for the CONNACK.
	stop := context.AfterFunc(ctx, func() { _ = l.raw.SetDeadline(time.Unix(1, 0)) })
	l.present, err = o.Connect.Handshake(l.conn)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fail(err)
	}
	_ = l.conn.SetDeadline(time.Time{})
	go l.serve(o.Connect.KeepAlive*3/2, read)
	return l, nil
}

// serve reads until the connection ends. idle bounds the time without a packet; 0: no bound.
func (l *link) serve(idle time.Duration, read func(first byte, body []byte)) {
	defer close(l.done)
	in := bufio.NewReader(l.conn)
	for {
		if idle > 0 {
			_ = l.conn.SetReadDeadline(time.Now().Add(idle))
		}
		first, body, err := wire.Read(in)
		if err != nil {
			var netErr net.Error
			if errors.As(err, &netErr) && netErr.Timeout() {
				err = ErrNoAnswer
			}
			l.err = err
			l.raw.Close()
			return
		}
		read(first, body)
	}
}

func (l *link) write(b []byte) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(timeout))
	_, err := l.conn.Write(b)
	return err
}

// end closes the connection without a DISCONNECT and waits for its goroutine.
func (l *link) end() error {
	l.raw.Close()
	<-l.done
	return l.err
}
