// Package account turns the configuration's account at NATS into options to connect
// with, for every program of this module.
package account

import (
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream"
)

// Options is how a says to reach NATS; name is the connection's in the server's
// monitoring.
func Options(a config.Account, name string) jetstream.ConnectOptions {
	o := jetstream.ConnectOptions{
		URL: a.URL.Join(), Name: name,
		User: a.User, Password: a.Password.Reveal(), Token: a.Token.Reveal(),
		Creds: a.Creds, NKeySeedFile: a.NKey,
		Context: a.Context, InboxPrefix: a.InboxPrefix,
	}
	if a.TLS.Given() {
		o.TLSFiles = jetstream.TLSFiles{CA: a.TLS.CA, Cert: a.TLS.Cert, Key: a.TLS.Key, ServerName: a.TLS.ServerName}
	}
	return o
}
