// Package neterror classifies network failures of connections to the MQTT broker, NATS and PostgreSQL.
package neterror

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Cause is the reason why a connection could not be established. It is empty if the connection was
// established or another layer failed.
type Cause string

// The causes.
const (
	Host     Cause = "host"      // the host name cannot be resolved
	Refused  Cause = "refused"   // no program listens on the port
	NoAnswer Cause = "no_answer" // no response to packets
	Other    Cause = "network"   // any other failure to dial
)

// Dial returns the reason why a connection could not be established.
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

// IsClosed reports whether the peer has closed the connection.
func IsClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// IsTimeout reports whether a deadline of the connection has passed.
func IsTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}

// WithoutLocalAddress removes the local address from an error text like "read tcp LOCAL->REMOTE: …".
// Its port differs for each connection.
func WithoutLocalAddress(text string) string {
	local, remote, ok := strings.Cut(text, "->")
	if !ok {
		return text
	}
	return local[:strings.LastIndexByte(local, ' ')+1] + remote
}
