package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// EndSession ends the session that the broker keeps under o.ClientID: its
// subscriptions and everything queued in it are gone, and a client that is connected
// under that id is thrown out. existed tells whether there was one. Of o it needs
// Servers, Login and ClientID.
//
// A clean session in CONNECT discards what was there (MQTT 3.1.1 [MQTT-3.1.2-6]),
// and its CONNACK does not tell whether that was anything; so a first connection
// asks.
func EndSession(ctx context.Context, o Options) (existed bool, err error) {
	existed, err = o.visit(ctx, false)
	if err != nil {
		return false, err
	}
	_, err = o.visit(ctx, true)
	return existed, err
}

// Reach connects to the broker under o.ClientID, with a clean session, and leaves again:
// it returns why that is not possible. Of o it needs what EndSession needs.
func Reach(ctx context.Context, o Options) error {
	_, err := o.visit(ctx, true)
	return err
}

// Dial opens a connection to s, with TLS where it has it. Of o it needs Login. The error is
// a [ConnectProblem].
func Dial(ctx context.Context, s Server, o Options) (net.Conn, error) {
	login, err := o.login(s)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, s, login)
	if err != nil {
		return nil, problem(ctx, newAttempt(s, login, 0, nil, err))
	}
	return conn, nil
}

// Greet sends CONNECT over conn, a connection to s, and reads CONNACK. Of o it needs Login and
// ClientID. The error is a [ConnectProblem].
func Greet(ctx context.Context, conn net.Conn, s Server, o Options, clean bool) (sessionPresent bool, err error) {
	login, err := o.login(s)
	if err != nil {
		return false, err
	}
	bounded, cancel := context.WithTimeout(ctx, connackTimeout)
	defer cancel()
	defer context.AfterFunc(bounded, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", 4
	p.CleanSession, p.Keepalive, p.ClientIdentifier = clean, 60, o.ClientID
	p.UsernameFlag, p.Username = login.Username != "", login.Username
	p.PasswordFlag, p.Password = login.Password != "", []byte(login.Password)
	a := newAttempt(s, login, 0, nil, p.Write(conn))
	if a.err == nil {
		sessionPresent, a.err = a.readConnack(conn)
	}
	if a.err != nil {
		return false, problem(ctx, a)
	}
	return sessionPresent, nil
}

// Connect is [Dial] and [Greet].
func Connect(ctx context.Context, s Server, o Options, clean bool) (conn net.Conn, sessionPresent bool, err error) {
	if conn, err = Dial(ctx, s, o); err != nil {
		return nil, false, err
	}
	if sessionPresent, err = Greet(ctx, conn, s, o, clean); err != nil {
		_ = conn.Close()
		return nil, false, err
	}
	return conn, sessionPresent, nil
}

// visit connects to the first of the servers that accepts the client, and leaves again; what
// the broker sends is not read.
func (o *Options) visit(ctx context.Context, clean bool) (sessionPresent bool, err error) {
	t := turns{servers: o.Servers}
	for {
		sessionPresent, err = o.visitServer(ctx, t.server(), clean)
		if err == nil {
			return sessionPresent, nil
		}
		err = t.note(err)
		if t.failed(err) {
			return false, err
		}
	}
}

func (o *Options) visitServer(ctx context.Context, s Server, clean bool) (sessionPresent bool, err error) {
	conn, sessionPresent, err := Connect(ctx, s, *o, clean)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := packets.NewControlPacket(packets.Disconnect).Write(conn); err != nil {
		return false, fmt.Errorf("say goodbye to %s: %w", s.URL(), err)
	}
	farewell(conn)
	return sessionPresent, nil
}

func problem(ctx context.Context, a *attempt) error {
	return a.problem(func() protocol { return identify(ctx, a.server.Address) })
}

// readConnack reads the four bytes of a CONNACK and nothing of what is none.
func (a *attempt) readConnack(conn net.Conn) (sessionPresent bool, err error) {
	b := make([]byte, 4, 64)
	n, err := io.ReadFull(conn, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil {
		a.said = b[:n]
	}
	if err != nil {
		return false, err
	}
	err = checkTurn(header{kind: b[0] >> 4}, false)
	if err == nil && b[1] != 2 {
		err = fmt.Errorf("%w: a CONNACK with %d remaining bytes", ErrMalformed, b[1])
	}
	if err != nil {
		a.readMore(conn)
		return false, err
	}
	accepted, sessionPresent, err := parseConnack(b[2:])
	if err == nil && !accepted {
		a.connack = b[3]
		err = packets.ConnErrors[b[3]]
	}
	return sessionPresent, err
}

// readMore completes what the other end says instead of a CONNACK, if it is there.
func (a *attempt) readMore(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, _ := conn.Read(a.said[len(a.said):cap(a.said)])
	a.said = a.said[:len(a.said)+n]
}

// farewell lets the broker read to the DISCONNECT: closed at once, a socket that has
// not been read resets the connection.
func farewell(conn net.Conn) {
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
