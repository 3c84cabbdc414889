package check

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// dialAdvice is what to do where no TCP connection came about.
func dialAdvice(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "check the host in mqtt.url"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there; check that the broker runs and the port in mqtt.url"
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "no answer at all; check the address in mqtt.url and firewalls on the way"
	}
	return "check mqtt.url and the network"
}

// tlsAdvice is what to do where the handshake failed.
func tlsAdvice(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		return "name the CA that signed the broker's certificate in mqtt.tls.ca"
	case errors.As(err, &host):
		return "set mqtt.tls.server_name to a name in the broker's certificate"
	case errors.As(err, &invalid):
		return "the broker's certificate is out of date or not made for a server; renew it"
	case errors.As(err, &plain), hungUp(err):
		return "this port does not speak TLS; write mqtt:// or the broker's TLS port"
	case isAlert(err):
		return "the broker refuses the client certificate; check mqtt.tls.cert, mqtt.tls.key and which CA the broker trusts"
	}
	return "check mqtt.tls and the broker's listener"
}

// connectAdvice is what to do where CONNECT had no answer. With TLS 1.3 a
// refused client certificate shows only here.
func connectAdvice(err error, secure bool) string {
	switch {
	case isAlert(err):
		return tlsAdvice(err)
	case hungUp(err) && !secure:
		return "the broker hung up; if this is a TLS port, write mqtts:// in mqtt.url"
	case hungUp(err):
		return "the broker hung up; see its log"
	case isTimeout(err):
		return "something else may listen there; check the port in mqtt.url"
	}
	return "check that an MQTT broker listens there"
}

// isAlert: crypto/tls calls an alert from the other end a "remote error".
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}
