package daemon

import (
	"time"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/registry"
)

// certificateExpiries returns the expiry times of the bridge's own client certificates, by
// connection. It reads the present files and omits a certificate that cannot be read: the next
// connect fails with the reason.
func (b *Bridge) certificateExpiries() map[string]time.Time {
	all := map[string]time.Time{}
	note := func(connection string, at time.Time, err error) {
		if err == nil && !at.IsZero() {
			all[connection] = at
		}
	}
	c := b.opts.Config
	at, err := c.MQTT.TLS.Files().Expiry()
	note("mqtt", at, err)
	at, err = account.CertificateExpiry(c.NATS.Account)
	note("nats", at, err)
	if p, ok := b.dynamic.registry.(*registry.Postgres); ok {
		at, err = p.CertificateExpiry()
		note("registry", at, err)
	}
	return all
}
