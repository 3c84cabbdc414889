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
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("load CA: %s is not the certificate of a CA", certFile)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("load CA: the key in %s cannot sign", keyFile)
	}
	pool, err := LoadPool(certFile)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: key, pool: pool}, nil
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
