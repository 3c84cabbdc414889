package config

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	"mqtt-nats-bridge/internal/schema"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Files returns the files of the block.
func (t TLS) Files() tlsfile.Files {
	return tlsfile.Files{CA: t.CA, Cert: t.Cert, Key: t.Key, PassphraseFile: t.Passphrase}
}

// Client returns the TLS configuration of a client: TLS 1.2 or later, with the given CA or the
// system's. It reads the files. A caller that calls it for each connection uses renewed files without
// a restart. An error names the file that cannot be used.
func (t TLS) Client() (*tls.Config, error) { return t.Files().Config(t.ServerName) }

// TLSConfig returns the TLS configuration for the broker, or nil if the URL is plain text. It reads
// the files on each call.
func (m MQTT) TLSConfig() (*tls.Config, error) {
	if !m.URL.Secure() {
		return nil, nil
	}
	conf, err := m.TLS.Client()
	if err == nil && m.TLS.ALPN != "" {
		conf.NextProtos = strings.Split(strings.ReplaceAll(m.TLS.ALPN, " ", ""), ",")
	}
	return conf, err
}

// CurrentHeaders returns the headers of the WebSocket handshake. Headers from a file are read again.
func (m MQTT) CurrentHeaders() (http.Header, error) {
	text, err := schema.Current("mqtt.headers_file", m.HeadersFile, m.Headers)
	if err != nil {
		return nil, err
	}
	return parseHeaders(text)
}

// parseHeaders reads lines of the form Name: value. The error quotes no part of them, because a
// header may contain a secret.
func parseHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isAlphanumeric(r) && r != '-' && r != '_' }) {
			return nil, errors.New("has a line that is not a header; write Name: value")
		}
		headers.Add(name, strings.TrimSpace(value))
	}
	return headers, nil
}

// CurrentPassword returns the password for the broker. A password from a file is read again.
func (m MQTT) CurrentPassword() (string, error) {
	return schema.Current("mqtt.password_file", m.PasswordFile, m.Password)
}
