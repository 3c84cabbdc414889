package jetstream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
)

// ProblemKind says what an operator has to look at.
type ProblemKind int

const (
	// ProblemOther: none of the kinds below.
	ProblemOther ProblemKind = iota
	// ProblemUnreachable: no NATS server answers there. Network, name, port.
	ProblemUnreachable
	// ProblemCredentials: a server answers and refuses who we are.
	ProblemCredentials
	// ProblemTLS: the two ends do not agree on certificates or on TLS itself.
	ProblemTLS
	// ProblemLimit: the server or the account has too many connections.
	ProblemLimit
)

// String is a lower-case token, fit for a metric's label.
func (k ProblemKind) String() string {
	switch k {
	case ProblemUnreachable:
		return "unreachable"
	case ProblemCredentials:
		return "credentials"
	case ProblemTLS:
		return "tls"
	case ProblemLimit:
		return "limit"
	}
	return "other"
}

// ConnectProblem is a failed attempt to connect, classified.
type ConnectProblem struct {
	Kind ProblemKind
	URL  string // redacted
	Err  error
}

// Error is a sentence for the operator: what failed, where, what to look at. It
// holds no secret.
func (p ConnectProblem) Error() string {
	switch p.Kind {
	case ProblemUnreachable:
		if hungUp(p.Err) {
			return fmt.Sprintf("nats at %s closes the connection: %v: check that a nats-server listens there, its log and its max_connections", p.URL, p.Err)
		}
		return fmt.Sprintf("nats at %s cannot be reached: %v: check the address and that nats-server runs", p.URL, p.Err)
	case ProblemCredentials:
		return fmt.Sprintf("nats at %s refuses the credentials: %v: check user, password, token, creds or nkey and that the server knows them", p.URL, p.Err)
	case ProblemTLS:
		return fmt.Sprintf("nats at %s and the bridge do not agree on tls: %v: check ca, cert, key, server_name and their dates", p.URL, p.Err)
	case ProblemLimit:
		return fmt.Sprintf("nats at %s takes no more connections: %v: raise max_connections of the server or the account", p.URL, p.Err)
	}
	return fmt.Sprintf("connect to nats at %s: %v", p.URL, p.Err)
}

func (p ConnectProblem) Unwrap() error { return p.Err }

// ClassifyConnectError tells why an attempt on urls failed. err is what nats.go
// gave: mostly text from the server behind a few sentinels.
func ClassifyConnectError(err error, urls string) ConnectProblem {
	return ConnectProblem{Kind: connectKind(err), URL: RedactURL(urls), Err: err}
}

func connectKind(err error) ProblemKind {
	switch {
	case err == nil:
		return ProblemOther
	case isCredentialError(err):
		return ProblemCredentials
	case isTLSError(err):
		return ProblemTLS
	case errors.Is(err, nats.ErrMaxConnectionsExceeded), errors.Is(err, nats.ErrMaxAccountConnectionsExceeded),
		strings.Contains(strings.ToLower(err.Error()), "maximum account active connections"),
		strings.Contains(strings.ToLower(err.Error()), "maximum connections exceeded"):
		return ProblemLimit
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && !isNetError(err):
		// A credentials file that went away since the start.
		return ProblemCredentials
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoInfoReceived),
		errors.Is(err, nats.ErrStaleConnection), errors.Is(err, io.EOF), isNetError(err):
		return ProblemUnreachable
	}
	return ProblemOther
}

// hungUp: something answered and went away. A server over its connection limit
// also looks like this: it closes before nats.go has read why.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

func isNetError(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr)
}

// isCredentialError also compares text: in the answer to CONNECT nats.go 1.55.0
// hands the server's -ERR through, which its sentinels match only in part ("User
// Authentication Expired" is not ErrAuthExpired's text).
func isCredentialError(err error) bool {
	for _, sentinel := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked,
		nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "authorization violation") ||
		strings.Contains(text, "authentication expired") ||
		strings.Contains(text, "authentication revoked")
}

func isTLSError(err error) bool {
	if errors.Is(err, nats.ErrTLS) || errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrSecureConnRequired) {
		return true
	}
	var unknownCA x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &unknownCA) || errors.As(err, &hostname) || errors.As(err, &invalid) {
		return true
	}
	// With TLS 1.3 a refused client certificate shows as an alert on the first
	// read after the handshake.
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" || strings.Contains(err.Error(), "tls: ")
}

// RedactURL replaces what stands before the @ of each comma-separated URL: the
// password, or all of it where it is a token. It works on text, so that it also
// holds for what does not parse.
func RedactURL(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		parts[i] = redactOne(strings.TrimSpace(part))
	}
	return strings.Join(parts, ",")
}

func redactOne(raw string) string {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		scheme, rest = "", raw
	} else {
		scheme += "://"
	}
	at := strings.LastIndexByte(rest, '@')
	if at >= 0 {
		user, _, hasPassword := strings.Cut(rest[:at], ":")
		if !hasPassword {
			return scheme + "xxxxx" + rest[at:]
		}
		return scheme + user + ":xxxxx" + rest[at:]
	}
	// A password with a comma in it falls apart above: what looks like a port
	// and is none may be its first half.
	host, port, hasPort := strings.Cut(rest, ":")
	if hasPort && !strings.HasPrefix(rest, "[") && strings.Trim(port, "0123456789/") != "" {
		return scheme + host + ":xxxxx"
	}
	return raw
}
