package natstest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/pki"
)

// CA signs certificates and writes them as PEM files. Unlike those of [pki.Authority], its certificates
// can have any name, any error and any length of their chain.
type CA struct {
	own  tls.Certificate
	File string // of its own certificate
}

// NewCA returns a CA. File contains its own certificate.
func NewCA(t *testing.T, name string) *CA {
	t.Helper()
	a := &CA{own: sign(t, authority(name), nil)}
	a.File = write(t, name, a.own).Cert
	return a
}

// Intermediate returns a CA whose certificate is signed by a.
func (a *CA) Intermediate(t *testing.T, name string) *CA {
	t.Helper()
	return &CA{own: sign(t, authority(name), &a.own)}
}

// Issue returns the files of a certificate for 127.0.0.1, valid for servers and clients.
func (a *CA) Issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	files := write(t, name, sign(t, leaf(name), &a.own))
	return files.Cert, files.Key
}

// ServerTLS returns options for a server with TLS. If mutual is true, the server requires a client
// certificate.
func (a *CA) ServerTLS(t *testing.T, mutual bool) func(*natsd.Options) {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{sign(t, leaf("nats.test"), &a.own)}, MinVersion: tls.VersionTLS12}
	if mutual {
		config.ClientCAs = a.Pool()
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return func(o *natsd.Options) {
		o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, mutual, config, 5
	}
}

// Pool contains the CA.
func (a *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.own.Leaf)
	return pool
}

// WithCertificate returns options for a server with a certificate that is issued by a and modified
// by template. The server also sends the certificates of chain.
func (a *CA) WithCertificate(t *testing.T, template func(*x509.Certificate), chain ...*CA) func(*natsd.Options) {
	t.Helper()
	c := leaf("nats.test")
	c.DNSNames, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if template != nil {
		template(c)
	}
	pair := sign(t, c, &a.own)
	for _, sent := range chain {
		pair.Certificate = append(pair.Certificate, sent.own.Certificate[0])
	}
	return func(o *natsd.Options) {
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func leaf(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

func sign(t *testing.T, template *x509.Certificate, issuer *tls.Certificate) tls.Certificate {
	t.Helper()
	cert, err := pki.Sign(template, issuer)
	require.NoError(t, err)
	return cert
}

// write uses a new directory, because parallel tests issue certificates under the same name.
func write(t *testing.T, name string, cert tls.Certificate) pki.Files {
	t.Helper()
	files, err := pki.Write(t.TempDir(), name, cert)
	require.NoError(t, err)
	return files
}
