// Package pki creates certificates at run time: a CA, server certificates and device certificates with
// any common name. The demo and the tests use it, so that the repository contains no keys or
// certificates.
//
// Keys are ECDSA P-256. Certificates are valid for a day, starting one hour in the past because clocks
// differ. An [Authority] is in memory; [Authority.WriteCA] and [Write] write PEM files for other
// processes.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"time"
)

const (
	backdate = time.Hour
	lifetime = 24 * time.Hour
)

// Authority is a certificate authority. Its methods are safe for concurrent use.
type Authority struct {
	own  tls.Certificate
	pool *x509.CertPool
}

// New creates an authority with a new key.
func New() (*Authority, error) {
	template := newTemplate("mqtt-nats-bridge run-time CA")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	own, err := Sign(template, nil)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(own.Leaf)
	return &Authority{own: own, pool: pool}, nil
}

// Pool returns a pool with the authority's trusted certificates.
func (a *Authority) Pool() *x509.CertPool { return a.pool.Clone() }

// Server issues a server certificate for localhost, 127.0.0.1, ::1 and the given host names and IP
// addresses.
func (a *Authority) Server(hosts ...string) (tls.Certificate, error) {
	template := newTemplate("localhost")
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, hosts...) {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return a.issue(template)
}

// Device issues a client certificate with exactly this common name. If cn is empty, the subject has no
// common name.
func (a *Authority) Device(cn string) (tls.Certificate, error) {
	template := newTemplate(cn)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// ServerConfig returns the TLS configuration of a listener that accepts only clients with a certificate
// of this authority (mTLS). hosts are those of [Authority.Server].
func (a *Authority) ServerConfig(hosts ...string) (*tls.Config, error) {
	cert, err := a.Server(hosts...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    a.Pool(),
	}, nil
}

// ClientConfig returns the TLS configuration of a device, with a new certificate for this common name.
func (a *Authority) ClientConfig(cn string) (*tls.Config, error) {
	cert, err := a.Device(cn)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		RootCAs:      a.Pool(),
	}, nil
}

func (a *Authority) issue(template *x509.Certificate) (tls.Certificate, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return Sign(template, &a.own)
}

// Sign issues a certificate with a new key. Without an issuer the certificate is self-signed.
func Sign(template *x509.Certificate, issuer *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate key for %q: %w", template.Subject.CommonName, err)
	}
	if issuer == nil {
		issuer = &tls.Certificate{Leaf: template, PrivateKey: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, &key.PublicKey, issuer.PrivateKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign certificate for %q: %w", template.Subject.CommonName, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse certificate for %q: %w", template.Subject.CommonName, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// newTemplate returns a template without a serial number; package x509 chooses it at random.
func newTemplate(cn string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		// Without a common name, the organization keeps the subject from being empty.
		Subject:   pkix.Name{CommonName: cn, Organization: []string{"mqtt-nats-bridge"}},
		NotBefore: now.Add(-backdate),
		NotAfter:  now.Add(lifetime),
	}
}
