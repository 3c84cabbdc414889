// Package account turns the configured NATS account into connect options, and a failed attempt into
// advice, for every program of this module.
package account

import (
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/conn"
)

// Options returns the connect options of a. name is the connection's name in the server's monitoring.
// Secrets in files are passed as file names, so that each connect reads them again.
func Options(a config.Account, name string) conn.Options {
	o := conn.Options{
		URL: a.URL.Join(), Name: name,
		User: a.User, Creds: a.Creds, NKeySeedFile: a.NKey,
		PasswordFile: a.PasswordFile, TokenFile: a.TokenFile,
		Context: a.Context, InboxPrefix: a.InboxPrefix, Domain: a.Domain,
	}
	if a.PasswordFile == "" {
		o.Password = a.Password.Reveal()
	}
	if a.TokenFile == "" {
		o.Token = a.Token.Reveal()
	}
	if t := a.TLS; t.Given() {
		o.TLSFiles = conn.TLSFiles{Files: t.Files(), ServerName: t.ServerName, HandshakeFirst: t.HandshakeFirst}
	}
	return o
}

// CertificateExpiry reads the client certificate of a from its file and returns its expiry. It is
// zero without a certificate.
func CertificateExpiry(a config.Account) (time.Time, error) {
	o, err := Options(a, "").Resolve()
	if err != nil {
		return time.Time{}, err
	}
	return o.TLSFiles.Expiry()
}

// Dial makes one attempt to connect to NATS, without retries. The error contains the cause and the
// advice. o must have been resolved.
func Dial(o conn.Options) (*nats.Conn, error) {
	nc, err := conn.Connect(o, nats.RetryOnFailedConnect(false))
	return nc, advice.Append(err)
}
