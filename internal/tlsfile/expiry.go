package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// Expiry reads the client certificate and returns the earliest expiry in its chain. It is zero without a
// certificate. The key is not read.
func (f Files) Expiry() (time.Time, error) {
	if f.Cert == "" {
		return time.Time{}, nil
	}
	content, err := read(f.Cert)
	if err != nil {
		return time.Time{}, fmt.Errorf("read certificate %s: %w", f.Cert, err)
	}
	var chain [][]byte
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			chain = append(chain, block.Bytes)
		}
	}
	if len(chain) == 0 {
		return time.Time{}, fmt.Errorf("read certificate %s: the file contains no PEM certificate", f.Cert)
	}
	expiry, err := chainExpiry(chain)
	if err != nil {
		return time.Time{}, fmt.Errorf("read certificate %s: %w", f.Cert, err)
	}
	return expiry, nil
}

// ConfigExpiry returns the earliest expiry in the chain of c's client certificate. It is zero without a
// certificate.
func ConfigExpiry(c *tls.Config) (time.Time, error) {
	if c == nil || len(c.Certificates) == 0 {
		return time.Time{}, nil
	}
	return chainExpiry(c.Certificates[0].Certificate)
}

// chainExpiry returns the earliest expiry in a chain of DER certificates.
func chainExpiry(chain [][]byte) (time.Time, error) {
	var first time.Time
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return time.Time{}, err
		}
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first, nil
}
