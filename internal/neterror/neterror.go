// Package neterror classifies network failures, in the same way for connections to the MQTT broker,
// to NATS and to PostgreSQL.
package neterror

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Cause says why a connection was not made; empty means that it was, or that another layer
// failed.
type Cause string

// The causes.
const (
	Host     Cause = "host"      // no such name
	Refused  Cause = "refused"   // nothing listens
	NoAnswer Cause = "no_answer" // packets get no answer
	Other    Cause = "network"   // any other failure to dial
)

// Dial returns why a connection was not made.
func Dial(err error) Cause {
	var dns *net.DNSError
	var op *net.OpError
	dialling := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.As(err, &dns):
		return Host
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case dialling && IsTimeout(err):
		return NoAnswer
	case dialling:
		return Other
	}
	return ""
}

// IsClosed reports whether the other end has closed the connection.
func IsClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// IsTimeout reports whether a deadline of the connection has passed.
func IsTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}

// WithoutLocalAddress takes the local end out of "read tcp LOCAL->REMOTE: …", the text of an
// error: its port is another one for each connection.
func WithoutLocalAddress(text string) string {
	local, remote, ok := strings.Cut(text, "->")
	if !ok {
		return text
	}
	return local[:strings.LastIndexByte(local, ' ')+1] + remote
}
