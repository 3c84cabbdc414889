package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
)

// tlsCause finds what is wrong with TLS; CauseUnknown where it is not TLS.
func tlsCause(err error, seen *evidence) (cause Cause, detail string) {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return CausePlain, ""
	case errors.As(err, &record) || strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return notTLS(seen)
	case errors.As(err, &op) && op.Op == "remote error":
		return alertCause(op.Err.Error())
	}
	if cause, detail := certificateCause(err); cause != CauseUnknown {
		return cause, detail
	}
	if !errors.Is(err, nats.ErrTLS) && !errors.Is(err, nats.ErrSecureConnRequired) && !strings.Contains(err.Error(), "tls: ") {
		return CauseUnknown, ""
	}
	switch text := err.Error(); {
	case strings.Contains(text, "unsupported protocol version"), strings.Contains(text, "no supported versions"):
		return CauseTLSVersion, ""
	case hungUp(err) && seen == nil && !strings.Contains(text, "after TLS handshake"):
		return CauseNotTLS, ""
	case hungUp(err):
		// With TLS 1.3 a server finds out about the client's certificate after the handshake.
		return CauseClientCert, ""
	}
	return CauseTLSHandshake, ""
}

// notTLS tells what answered a TLS handshake in plain text.
func notTLS(seen *evidence) (Cause, string) {
	if seen == nil || !strings.HasPrefix(seen.first, "INFO ") {
		return CauseNotTLS, saying(seen)
	}
	if strings.Contains(seen.first, `"tls_required":true`) || strings.Contains(seen.first, `"tls_available":true`) {
		return CauseGreetsFirst, ""
	}
	return CausePlain, "it greets in plain text"
}

// alertCause reads the alert with which the server ended the handshake.
func alertCause(alert string) (Cause, string) {
	switch {
	case strings.Contains(alert, "protocol version"):
		return CauseTLSVersion, alert
	case strings.Contains(alert, "certificate"), strings.Contains(alert, "unknown authority"):
		return CauseClientCert, alert
	}
	return CauseTLSHandshake, alert
}

// certificateCause tells what is wrong with the server's certificate.
func certificateCause(err error) (Cause, string) {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		names := append([]string{}, host.Certificate.DNSNames...)
		for _, ip := range host.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return CauseNoSAN, fmt.Sprintf("it is for the common name %q, which no client goes by", host.Certificate.Subject.CommonName)
		}
		return CauseHostname, fmt.Sprintf("it is for %s, not for %s", strings.Join(names, ", "), host.Host)
	case errors.As(err, &invalid):
		switch invalid.Reason {
		case x509.Expired:
			return CauseDates, fmt.Sprintf("it is valid from %s to %s", invalid.Cert.NotBefore.UTC().Format("2006-01-02 15:04"), invalid.Cert.NotAfter.UTC().Format("2006-01-02 15:04"))
		case x509.IncompatibleUsage:
			return CauseUsage, ""
		}
		return CauseTLSHandshake, ""
	case errors.As(err, &unknown):
		return authorityCause(err)
	}
	return CauseUnknown, ""
}

// authorityCause tells a chain that ends too early from a CA that is not trusted. Whether an
// issuer that nobody has shown is a root or an intermediate CA cannot be told from here.
func authorityCause(err error) (Cause, string) {
	var unverified *tls.CertificateVerificationError
	if !errors.As(err, &unverified) || len(unverified.UnverifiedCertificates) == 0 {
		return CauseAuthority, ""
	}
	chain := unverified.UnverifiedCertificates
	leaf, last := chain[0], chain[len(chain)-1]
	switch {
	case leaf.Issuer.String() == leaf.Subject.String():
		return CauseAuthority, fmt.Sprintf("it is self-signed, by %q", leaf.Subject.String())
	case strings.Contains(err.Error(), "candidate authority certificate"):
		return CauseAuthority, fmt.Sprintf("%q issued it, and the CA of that name trusted here has another key", last.Issuer.String())
	case len(chain) == 1:
		return CauseChain, fmt.Sprintf("%q issued it", leaf.Issuer.String())
	}
	return CauseAuthority, fmt.Sprintf("its chain ends at %q", last.Issuer.String())
}
