// Package dial opens connections to an MQTT broker over TCP, TLS and WebSocket, and classifies
// failures.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// Server is a listener of a broker.
type Server struct {
	Address string // host:port
	TLS     bool
	// WebSocket means MQTT over WebSocket, at Path, which begins with a slash.
	WebSocket bool
	Path      string
}

// URL returns the listener as mqtt://, mqtts://, ws:// or wss://.
func (s Server) URL() string {
	scheme := "mqtt"
	if s.WebSocket {
		scheme = "ws"
	}
	if s.TLS {
		scheme += "s"
	}
	return scheme + "://" + s.Address + s.Path
}

// Login contains the credentials for a broker.
type Login struct {
	Username, Password string
	// TLS configures listeners with TLS. nil: the system's CAs and no client certificate. Without a
	// ServerName, the broker's certificate must match the host of the address.
	TLS *tls.Config
	// Header is sent with the WebSocket handshake.
	Header http.Header
}

func (l *Login) hasCertificate() bool {
	return l.TLS != nil && (len(l.TLS.Certificates) > 0 || l.TLS.GetClientCertificate != nil)
}

func (l *Login) tlsConfig() *tls.Config {
	if l.TLS == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return l.TLS.Clone()
}

// handshakeError means that TCP connected but the TLS handshake failed.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// Timeout bounds opening a connection: TCP and TLS.
const Timeout = 10 * time.Second

// ConnackTimeout bounds the wait for CONNACK. It exceeds the 15 s that EMQX takes to take a session
// over from another connection. If the client left earlier, it would block its own next attempt.
const ConnackTimeout = 25 * time.Second

// Dial opens a connection to s. Its error can be classified by [Attempt].
func Dial(ctx context.Context, s Server, login *Login) (net.Conn, error) {
	if s.WebSocket {
		return dialWebSocket(ctx, s, login)
	}
	conn, err := (&net.Dialer{Timeout: Timeout}).DialContext(ctx, "tcp", s.Address)
	if err != nil || !s.TLS {
		return conn, err
	}
	conf := login.tlsConfig()
	if conf.ServerName == "" {
		if conf.ServerName, _, err = net.SplitHostPort(s.Address); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &handshakeError{err}
	}
	return secure, nil
}
