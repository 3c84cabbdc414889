package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mqtt-nats-bridge/mqtt/dial"
)

// EndSession deletes the broker's session of o.ClientID with its subscriptions and its queue, and
// disconnects a client that uses the id. existed reports whether there was a session. It uses
// o.Servers, o.Login and o.ClientID.
//
// A CONNECT with clean session discards the session [MQTT-3.1.2-6], but its CONNACK does not report
// whether there was one. So a first connection without clean session finds out.
func EndSession(ctx context.Context, o Options) (existed bool, err error) {
	existed, err = o.connectOnce(ctx, false)
	if err != nil {
		return false, err
	}
	_, err = o.connectOnce(ctx, true)
	return existed, err
}

// Reach connects to the broker as o.ClientID with a clean session, disconnects, and returns the
// error if that fails. It uses the same fields of o as EndSession.
func Reach(ctx context.Context, o Options) error {
	_, err := o.connectOnce(ctx, true)
	return err
}

// credentials returns the result of o.Login. The error is a [dial.Problem].
func (o *Options) credentials(s dial.Server) (*dial.Login, error) {
	if o.Login == nil {
		return &dial.Login{}, nil
	}
	login, err := o.Login()
	if err != nil {
		a := dial.Attempt{Server: s, Err: err}
		return nil, a.Problem(nil)
	}
	return &login, nil
}

// Dial opens a connection to s, with TLS if s uses it. It uses o.Login. The error is a
// [dial.Problem].
func Dial(ctx context.Context, s dial.Server, o Options) (net.Conn, error) {
	login, err := o.credentials(s)
	if err != nil {
		return nil, err
	}
	conn, err := dial.Dial(ctx, s, login)
	if err != nil {
		return nil, problem(ctx, newAttempt(s, login, 0, nil, err))
	}
	return conn, nil
}

// Greet sends CONNECT over conn, a connection to s, and reads CONNACK. It uses o.Login and
// o.ClientID. The error is a [dial.Problem].
func Greet(ctx context.Context, conn net.Conn, s dial.Server, o Options, clean bool) (sessionPresent bool, err error) {
	login, err := o.credentials(s)
	if err != nil {
		return false, err
	}
	bounded, cancel := context.WithTimeout(ctx, dial.ConnackTimeout)
	defer cancel()
	defer context.AfterFunc(bounded, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", 4
	p.CleanSession, p.Keepalive, p.ClientIdentifier = clean, 60, o.ClientID
	p.UsernameFlag, p.Username = login.Username != "", login.Username
	p.PasswordFlag, p.Password = login.Password != "", []byte(login.Password)
	a := newAttempt(s, login, 0, nil, p.Write(conn))
	if a.Err == nil {
		sessionPresent, err = readConnack(a, conn)
		setError(a, err)
	}
	if a.Err != nil {
		return false, problem(ctx, a)
	}
	return sessionPresent, nil
}

// Connect calls [Dial] and [Greet].
func Connect(ctx context.Context, s dial.Server, o Options, clean bool) (conn net.Conn, sessionPresent bool, err error) {
	if conn, err = Dial(ctx, s, o); err != nil {
		return nil, false, err
	}
	if sessionPresent, err = Greet(ctx, conn, s, o, clean); err != nil {
		_ = conn.Close()
		return nil, false, err
	}
	return conn, sessionPresent, nil
}

// connectOnce connects to the first server that accepts the client, and disconnects. It reads
// nothing after CONNACK.
func (o *Options) connectOnce(ctx context.Context, clean bool) (sessionPresent bool, err error) {
	t := serverRotation{servers: o.Servers}
	for {
		sessionPresent, err = o.connectTo(ctx, t.server(), clean)
		if err == nil {
			return sessionPresent, nil
		}
		err = t.note(err)
		if t.advance(err) {
			return false, err
		}
	}
}

func (o *Options) connectTo(ctx context.Context, s dial.Server, clean bool) (sessionPresent bool, err error) {
	conn, sessionPresent, err := Connect(ctx, s, *o, clean)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := packets.NewControlPacket(packets.Disconnect).Write(conn); err != nil {
		return false, fmt.Errorf("disconnect from %s: %w", s.URL(), err)
	}
	awaitClose(conn)
	return sessionPresent, nil
}

func problem(ctx context.Context, a *dial.Attempt) error {
	return a.Problem(func() dial.Protocol { return dial.Identify(ctx, a.Server.Address) })
}

// readConnack reads and parses a CONNACK. If the answer is not one, it reads more of it, so that the
// error can show what the server sent.
func readConnack(a *dial.Attempt, conn net.Conn) (sessionPresent bool, err error) {
	b := make([]byte, 4, 64)
	n, err := io.ReadFull(conn, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil {
		a.Received = b[:n]
	}
	if err != nil {
		return false, err
	}
	err = checkConnackOrder(header{kind: b[0] >> 4}, false)
	if err == nil && b[1] != 2 {
		err = fmt.Errorf("%w: a CONNACK with %d remaining bytes", ErrMalformed, b[1])
	}
	if err != nil {
		readMore(a, conn)
		return false, err
	}
	accepted, sessionPresent, err := parseConnack(b[2:])
	if err == nil && !accepted {
		a.Connack = b[3]
		err = packets.ConnErrors[b[3]]
	}
	return sessionPresent, err
}

// readMore reads the rest of an answer that is not a CONNACK, as far as it has arrived.
func readMore(a *dial.Attempt, conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, _ := conn.Read(a.Received[len(a.Received):cap(a.Received)])
	a.Received = a.Received[:len(a.Received)+n]
}

// awaitClose waits until the broker has read the DISCONNECT and closed. Closing a socket with
// unread bytes would reset the connection.
func awaitClose(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(closeTimeout))
	rest := make([]byte, 32<<10)
	for {
		if _, err := conn.Read(rest); err != nil {
			return
		}
	}
}
