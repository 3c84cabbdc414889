package config

import (
	"crypto/tls"

	"mqtt-nats-bridge/internal/tlsfile"
)

// maxPEM bounds certificates, keys, credentials and secrets, in bytes.
const maxPEM = 1 << 20

// Given reports whether any of the block was given.
func (t TLS) Given() bool { return t != TLS{} }

// Files are the files of the block.
func (t TLS) Files() tlsfile.Files {
	return tlsfile.Files{CA: t.CA, Cert: t.Cert, Key: t.Key, PassphraseFile: t.Passphrase}
}

// Client is the TLS configuration of a client: TLS 1.2 or later, the named CA or the
// system's. It reads the files: call it again for each connection, so that renewed files
// need no restart. A file that is named and cannot be used is an error that names it.
func (t TLS) Client() (*tls.Config, error) { return t.Files().Config(t.ServerName) }

// TLSConfig is the TLS configuration for the broker, its files read now; nil where the URL
// is plain text.
func (m MQTT) TLSConfig() (*tls.Config, error) {
	if !m.URL.Secure() {
		return nil, nil
	}
	return m.TLS.Client()
}

// CurrentPassword returns the password at the broker, read from its file again where there
// is one.
func (m MQTT) CurrentPassword() (string, error) {
	return current("mqtt.password_file", m.PasswordFile, m.Password)
}
