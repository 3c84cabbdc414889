package dial

import (
	"context"
	"errors"
	"net"
	"strings"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"mqtt-nats-bridge/internal/neterror"
)

// dialWebSocket opens a WebSocket with paho's adapter, through the proxy of the environment if
// there is one. paho accepts no context: an abandoned attempt ends after Timeout.
func dialWebSocket(ctx context.Context, s Server, login *Login) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := paho.NewWebsocket(s.URL(), login.tlsConfig(), Timeout, login.Header, nil)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// notWebSocket reports whether the server refused or does not support the handshake.
func notWebSocket(err error) bool {
	return errors.Is(err, websocket.ErrBadHandshake) || strings.Contains(err.Error(), "malformed HTTP")
}

// IsClosed reports whether the broker closed the connection. Under load a write detects it as often
// as a read. TLS without close_notify reports an unexpected EOF.
func IsClosed(err error) bool {
	_, closeFrame := errors.AsType[*websocket.CloseError](err)
	return closeFrame || neterror.IsClosed(err)
}
