package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
)

// dialWebSocket opens a WebSocket with paho's adapter, through the proxy of the environment
// where there is one. paho takes no context: an attempt that is not wanted any more ends by
// itself after dialTimeout.
func dialWebSocket(ctx context.Context, s Server, login *Login) (net.Conn, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if login.TLS != nil {
		conf = login.TLS
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := paho.NewWebsocket(s.URL(), conf, dialTimeout, login.Header, nil)
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

// notWebSocket tells whether the other end refused the handshake or does not know it.
func notWebSocket(err error) bool {
	return errors.Is(err, websocket.ErrBadHandshake) || strings.Contains(err.Error(), "malformed HTTP")
}

// closedWebSocket tells whether the other end closed the WebSocket in order.
func closedWebSocket(err error) bool {
	var closed *websocket.CloseError
	return errors.As(err, &closed)
}
