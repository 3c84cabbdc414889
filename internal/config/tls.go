package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxPEM bounds certificates, keys, credentials and secrets, in bytes.
const maxPEM = 1 << 20

// Given reports whether any of the block was given.
func (t TLS) Given() bool { return t != TLS{} }

// Client is the TLS configuration of a client: TLS 1.2 or later, the named CA
// or the system's, the client certificate read again at each handshake, so that
// a renewed one needs no restart. A file that is named and cannot be used is an
// error that names it.
func (t TLS) Client() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pool, err := t.pool()
		if err != nil {
			return nil, fmt.Errorf("read CA %s: %w", t.CA, err)
		}
		conf.RootCAs = pool
	}
	if t.Cert == "" && t.Key == "" {
		return conf, nil
	}
	if _, err := t.pair(); err != nil {
		return nil, err
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.pair() }
	return conf, nil
}

func (t TLS) pool() (*x509.CertPool, error) {
	pem, err := readFile(t.CA, maxPEM)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate; it must be PEM")
	}
	return pool, nil
}

func (t TLS) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	return &pair, nil
}

// TLSConfig is the TLS configuration for the broker, nil where the URL is plain
// text. The server name is set: a tls.Client over an open connection does not
// know the host.
func (m MQTT) TLSConfig() (*tls.Config, error) {
	if !m.URL.Secure {
		return nil, nil
	}
	conf, err := m.TLS.Client()
	if err != nil {
		return nil, fmt.Errorf("set up TLS for %s: %w", m.URL, err)
	}
	if conf.ServerName == "" {
		conf.ServerName = m.URL.Host
	}
	return conf, nil
}
