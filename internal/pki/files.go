package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// Files contains the paths of the PEM files of one certificate.
type Files struct {
	Cert string
	Key  string
}

// WriteCA writes the authority's certificate, without its key, to dir/ca.pem and returns the path.
func (a *Authority) WriteCA(dir string) (string, error) {
	path := filepath.Join(dir, "ca.pem")
	if err := writePEM(path, "CERTIFICATE", a.own.Certificate[0], 0o644); err != nil {
		return "", err
	}
	return path, nil
}

// Write writes cert to dir as name.pem and name.key. The key is PKCS #8 and readable only by the owner.
func Write(dir, name string, cert tls.Certificate) (Files, error) {
	files := Files{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return Files{}, fmt.Errorf("encode key %s: %w", files.Key, err)
	}
	if err := writePEM(files.Cert, "CERTIFICATE", cert.Certificate[0], 0o644); err != nil {
		return Files{}, err
	}
	if err := writePEM(files.Key, "PRIVATE KEY", key, 0o600); err != nil {
		return Files{}, err
	}
	return files, nil
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// WriteFiles writes the authority's certificate and its key to dir, for a program that signs
// certificates with them.
func (a *Authority) WriteFiles(dir string) (Files, error) {
	return Write(dir, "signing-ca", a.own)
}
