package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// Server is a listener of a broker.
type Server struct {
	Address string // host:port
	TLS     bool
}

// Login is who connects to a broker.
type Login struct {
	Username, Password string
	// TLS is for listeners with TLS; nil: the system's CAs, no client certificate. Where it
	// names no server, the host of the address must be in the broker's certificate.
	TLS *tls.Config
}

// loginError means that the credentials could not be read, so that no connection was tried.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

func (o *Options) login() (Login, error) {
	if o.Login == nil {
		return Login{}, nil
	}
	login, err := o.Login()
	if err != nil {
		return login, &loginError{fmt.Errorf("credentials: %w", err)}
	}
	return login, nil
}

func dial(ctx context.Context, s Server, login *Login) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if s.TLS {
		return (&tls.Dialer{NetDialer: dialer, Config: login.TLS}).DialContext(ctx, "tcp", s.Address)
	}
	return dialer.DialContext(ctx, "tcp", s.Address)
}
