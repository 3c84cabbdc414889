// Package tlsfile reads the PEM files of a TLS client: the CA certificates to trust, and
// the client certificate with its key, which may be encrypted.
package tlsfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile bounds each file, in bytes.
const maxFile = 1 << 20

var (
	// ErrEncryptedKey means that a private key is encrypted and no passphrase is given.
	ErrEncryptedKey = errors.New("the private key is encrypted, and no passphrase is given")
	// ErrPassphrase means that a private key cannot be decrypted with the passphrase.
	ErrPassphrase = errors.New("the passphrase of the private key is wrong")
)

// Files contains the names of a client's files. Cert and Key must be given together.
type Files struct {
	CA        string
	Cert, Key string
	// PassphraseFile contains the passphrase of Key; a trailing newline is dropped.
	PassphraseFile string
}

// Roots reads the CA certificates. It returns nil without a CA, which means the system's CAs.
func (f Files) Roots() (*x509.CertPool, error) {
	if f.CA == "" {
		return nil, nil
	}
	content, err := read(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read CA %s: %w", f.CA, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("read CA %s: the file contains no PEM certificate", f.CA)
	}
	return pool, nil
}

// Certificate reads the client certificate and its key. It returns nil if none is configured. The error
// names the faulty file and quotes no part of its content.
func (f Files) Certificate() (*tls.Certificate, error) {
	switch {
	case f.Cert == "" && f.Key == "":
		return nil, nil
	case f.Key == "":
		return nil, fmt.Errorf("read certificate %s: its key is not given", f.Cert)
	case f.Cert == "":
		return nil, fmt.Errorf("read key %s: its certificate is not given", f.Key)
	}
	cert, err := read(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", f.Cert, err)
	}
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	return &pair, nil
}

// key returns the key as PEM, decrypted.
func (f Files) key() ([]byte, error) {
	content, err := read(f.Key)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", f.Key, err)
	}
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return content, nil // X509KeyPair reports the error
		}
		if !isEncrypted(block) {
			continue
		}
		if f.PassphraseFile == "" {
			return nil, fmt.Errorf("read key %s: %w", f.Key, ErrEncryptedKey)
		}
		passphrase, err := read(f.PassphraseFile)
		if err != nil {
			return nil, fmt.Errorf("read passphrase %s: %w", f.PassphraseFile, err)
		}
		plain, err := decrypt(block, bytes.TrimRight(passphrase, "\r\n"))
		if err != nil {
			return nil, fmt.Errorf("read key %s with the passphrase in %s: %w", f.Key, f.PassphraseFile, err)
		}
		return pem.EncodeToMemory(plain), nil
	}
}

// Config reads all files and returns a client's TLS configuration. The client certificate is read again
// at every handshake. The CA certificates are not, so Config should be called for each connection.
func (f Files) Config(serverName string) (*tls.Config, error) {
	roots, err := f.Roots()
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: roots}
	switch pair, err := f.Certificate(); {
	case err != nil:
		return nil, err
	case pair == nil:
		return conf, nil
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.Certificate() }
	return conf, nil
}

// Read reads a file of at most 1 MiB.
func Read(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = errors.New("the file is larger than 1 MiB")
	}
	return content, err
}

func read(name string) ([]byte, error) {
	content, err := Read(name)
	return content, withoutPath(err)
}

// withoutPath removes the path from an error, because the caller's text contains it.
func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
