package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Load reads an authority from PEM files. certFile contains its certificate, which must be the first,
// and keyFile its key. Every certificate in certFile is trusted.
func Load(certFile, keyFile string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("load CA: %s is not the certificate of a CA", certFile)
	}
	if _, ok := pair.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("load CA: the key in %s cannot sign", keyFile)
	}
	pool, err := LoadPool(certFile)
	if err != nil {
		return nil, err
	}
	return &Authority{own: pair, pool: pool}, nil
}

// LoadPool reads the certificates of a PEM file.
func LoadPool(certFile string) (*x509.CertPool, error) {
	data, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("load CA: %s contains no certificate", certFile)
	}
	return pool, nil
}
