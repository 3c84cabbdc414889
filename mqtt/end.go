package mqtt

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// EndSession ends the session that the broker keeps under o.ClientID: its
// subscriptions and everything queued in it are gone, and a client that is connected
// under that id is thrown out. existed tells whether there was one. Of o it needs
// Server, Login and ClientID.
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

// visit connects and leaves again; what the broker sends is not read.
func (o *Options) visit(ctx context.Context, clean bool) (sessionPresent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+connackTimeout)
	defer cancel()
	login, err := o.login()
	if err != nil {
		return false, connectError(o.Server.Address, 0, err)
	}
	conn, err := dial(ctx, o.Server, &login)
	if err != nil {
		return false, connectError(o.Server.Address, 0, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", 4
	p.CleanSession, p.Keepalive, p.ClientIdentifier = clean, 60, o.ClientID
	p.UsernameFlag, p.Username = login.Username != "", login.Username
	p.PasswordFlag, p.Password = login.Password != "", []byte(login.Password)
	if err := p.Write(conn); err != nil {
		return false, connectError(o.Server.Address, 0, err)
	}
	sessionPresent, err = o.readConnack(conn)
	if err != nil {
		return false, err
	}
	if err := packets.NewControlPacket(packets.Disconnect).Write(conn); err != nil {
		return false, fmt.Errorf("say goodbye to %s: %w", o.Server.Address, err)
	}
	farewell(conn)
	return sessionPresent, nil
}

// readConnack reads the four bytes of a CONNACK and nothing of what is none.
func (o *Options) readConnack(conn net.Conn) (sessionPresent bool, err error) {
	var b [4]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return false, connectError(o.Server.Address, 0, err)
	}
	err = checkTurn(header{kind: b[0] >> 4}, false)
	if err == nil && b[1] != 2 {
		err = fmt.Errorf("%w: a CONNACK with %d remaining bytes", ErrMalformed, b[1])
	}
	if err != nil {
		return false, connectError(o.Server.Address, 0, err)
	}
	accepted, sessionPresent, err := parseConnack(b[2:])
	if err == nil && !accepted {
		err = packets.ConnErrors[b[3]]
	}
	if err != nil {
		return false, connectError(o.Server.Address, b[3], err)
	}
	return sessionPresent, nil
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
