// Package account turns the configuration's account at NATS into options to connect
// with, and a failed attempt into advice, for every program of this module.
package account

import (
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"

	"github.com/nats-io/nats.go"
)

// Options is how a says to reach NATS; name is the connection's in the server's
// monitoring. Secrets in files are left there, to be read at each connect.
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
		o.TLSFiles = conn.TLSFiles{
			CA: t.CA, Cert: t.Cert, Key: t.Key, PassphraseFile: t.Passphrase, ServerName: t.ServerName, HandshakeFirst: t.HandshakeFirst,
		}
	}
	return o
}

// CertificateExpiry is when the client certificate of a expires, read from its file as it is
// now; zero without one.
func CertificateExpiry(a config.Account) (time.Time, error) {
	o, err := Options(a, "").Resolve()
	if err != nil {
		return time.Time{}, err
	}
	return tlsfile.Files{Cert: o.TLSFiles.Cert}.Expiry()
}

// Dial connects once to NATS instead of forever; the error says what is wrong and what to
// do about it. o must have been resolved.
func Dial(o conn.Options) (*nats.Conn, error) {
	nc, err := conn.Connect(o, nats.RetryOnFailedConnect(false))
	return nc, advice.Append(err)
}
