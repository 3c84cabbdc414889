package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Cause classifies a problem of a certificate or of TLS itself. It is empty if the problem is unknown.
type Cause string

// The causes.
const (
	Authority         Cause = "authority"          // an unknown CA
	Chain             Cause = "chain"              // an intermediate certificate is missing
	NoSAN             Cause = "no_san"             // the certificate has no subject alternative name
	Hostname          Cause = "hostname"           // the certificate is for a different host
	Dates             Cause = "dates"              // the certificate is expired or not valid yet
	Usage             Cause = "usage"              // the certificate is not valid for a server
	ClientCertificate Cause = "client_certificate" // the client certificate is refused or missing
	Version           Cause = "tls_version"        // no TLS version in common
	ALPN              Cause = "alpn"               // no application protocol in common
	Handshake         Cause = "tls_handshake"      // any other failure
)

// Sentence describes the problem as a predicate whose subject is the peer.
func (c Cause) Sentence() string {
	return map[Cause]string{
		Authority:         "has a certificate of a CA that is not trusted here",
		Chain:             "has a certificate whose issuer is neither trusted nor sent with it",
		NoSAN:             "has a certificate without subject alternative names",
		Hostname:          "has a certificate for a different host",
		Dates:             "has a certificate that is not valid now",
		Usage:             "has a certificate that is not valid for servers",
		ClientCertificate: "refuses the client certificate or requires one",
		Version:           "has no TLS version in common",
		ALPN:              "has no ALPN protocol in common",
		Handshake:         "fails the TLS handshake",
	}[c]
}

// Diagnose returns the cause of an error from certificates or from a TLS alert. detail is empty if the
// text of err is sufficient.
func Diagnose(err error) (cause Cause, detail string) {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" { // crypto/tls: an alert
		return alertCause(op.Err.Error())
	}
	if cause, detail := certificateCause(err); cause != "" {
		return cause, detail
	}
	switch text := err.Error(); {
	case strings.Contains(text, "unsupported protocol version"), strings.Contains(text, "no supported versions"),
		strings.Contains(text, "unsupported versions"):
		return Version, ""
	case strings.Contains(text, "application protocol"), strings.Contains(text, "ALPN protocol"):
		return ALPN, ""
	}
	return "", ""
}

// alertCause returns the cause of the alert with which the server ended the handshake.
func alertCause(alert string) (Cause, string) {
	switch {
	case strings.Contains(alert, "protocol version"):
		return Version, alert
	case strings.Contains(alert, "application protocol"):
		return ALPN, alert
	case strings.Contains(alert, "certificate"), strings.Contains(alert, "unknown authority"):
		return ClientCertificate, alert
	}
	return Handshake, alert
}

// certificateCause returns the cause of an error about the server's certificate.
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
			return NoSAN, fmt.Sprintf("it has only the common name %q, which clients ignore", host.Certificate.Subject.CommonName)
		}
		return Hostname, fmt.Sprintf("it is for %s, not for %s", strings.Join(names, ", "), host.Host)
	case errors.As(err, &invalid):
		switch invalid.Reason {
		case x509.Expired:
			return Dates, fmt.Sprintf("it is valid from %s to %s", invalid.Cert.NotBefore.UTC().Format("2006-01-02 15:04"), invalid.Cert.NotAfter.UTC().Format("2006-01-02 15:04"))
		case x509.IncompatibleUsage:
			return Usage, ""
		}
		return Handshake, ""
	case errors.As(err, &unknown):
		return authorityCause(err)
	}
	return "", ""
}

// authorityCause distinguishes an incomplete chain from a CA that is not trusted. It cannot determine
// whether an issuer without a certificate in the chain is a root or an intermediate CA.
func authorityCause(err error) (Cause, string) {
	var unverified *tls.CertificateVerificationError
	if !errors.As(err, &unverified) || len(unverified.UnverifiedCertificates) == 0 {
		return Authority, ""
	}
	chain := unverified.UnverifiedCertificates
	leaf, last := chain[0], chain[len(chain)-1]
	switch {
	case leaf.Issuer.String() == leaf.Subject.String():
		return Authority, fmt.Sprintf("it is self-signed, by %q", leaf.Subject.String())
	case strings.Contains(err.Error(), "candidate authority certificate"):
		return Authority, fmt.Sprintf("%q issued it, and the trusted CA of that name has a different key", last.Issuer.String())
	case len(chain) == 1:
		return Chain, fmt.Sprintf("%q issued it", leaf.Issuer.String())
	}
	return Authority, fmt.Sprintf("its chain ends at %q", last.Issuer.String())
}
