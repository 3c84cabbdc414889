package conn

import (
	"crypto/tls"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/internal/tlsfile"
)

// tlsCause returns the cause of a TLS failure, or CauseUnknown for any other error.
func tlsCause(err error, seen *serverOutput) (cause Cause, detail string) {
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return CausePlain, ""
	case isRecord, strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return notTLS(seen)
	}
	if cause, detail := tlsfile.Diagnose(err); cause != "" {
		return Cause(cause), detail
	}
	if !errors.Is(err, nats.ErrTLS) && !errors.Is(err, nats.ErrSecureConnRequired) && !strings.Contains(err.Error(), "tls: ") {
		return CauseUnknown, ""
	}
	switch {
	case neterror.IsClosed(err) && seen == nil && !strings.Contains(err.Error(), "after TLS handshake"):
		return CauseNotTLS, ""
	case neterror.IsClosed(err):
		// With TLS 1.3, the server checks the client's certificate after the handshake.
		return CauseClientCert, ""
	}
	return CauseTLSHandshake, ""
}

// notTLS determines which server answered a TLS handshake in plain text.
func notTLS(seen *serverOutput) (Cause, string) {
	if seen == nil || !strings.HasPrefix(seen.first, "INFO ") {
		return CauseNotTLS, quoteGreeting(seen)
	}
	if strings.Contains(seen.first, `"tls_required":true`) || strings.Contains(seen.first, `"tls_available":true`) {
		return CauseGreetsFirst, ""
	}
	return CausePlain, "it sends its greeting in plain text"
}
