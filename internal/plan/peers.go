package plan

import (
	"net"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/jetstream/leaf"
	"mqtt-nats-bridge/jetstream/streams"
)

// LeafOptions returns the options of the leaf node that c configures.
func LeafOptions(c *config.Config, streams []streams.Spec) leaf.Options {
	l := c.NATS.Leaf
	return leaf.Options{
		Hub: account.Options(c.NATS.Account, c.MQTT.ClientID), URLs: l.URL.String(), Domain: l.Domain, StoreDir: l.StoreDir,
		MaxBytes: int64(l.MaxBytes), MaxPayload: int32(l.MaxPayload), SyncInterval: l.SyncInterval,
		DuplicateWindow: c.Streams.DuplicateWindow, Streams: streams,
	}
}

// EMQXClient returns a client of the configured EMQX API.
func EMQXClient(e config.EMQX) *emqx.Client {
	return emqx.New(emqx.Options{API: e.API.String(), Key: e.Key, Secret: e.CurrentSecret, TLS: e.ClientTLS})
}

// LeaseBucket returns the options of the bucket of leases that c configures.
func LeaseBucket(c *config.Config, nc *nats.Conn, js natsjs.JetStream) lease.BucketOptions {
	return lease.BucketOptions{
		NATS: nc, JS: js, Name: c.Lanes.Bucket, Stem: c.MQTT.ClientID,
		Create: c.Streams.Manage == config.ManageCreate, TTL: c.Lanes.TTL, Replicas: c.Streams.Replicas,
	}
}

// BrokerIdentity returns the name by which a bridge on host identifies its broker in the leases. It
// consists of the addresses in mqtt.url, independent of their order. A loopback address includes the
// host, because it means a different machine on each host.
func BrokerIdentity(c *config.Config, host string) string {
	var names []string
	for _, u := range c.MQTT.URL.List() {
		name := strings.ToLower(u.Address)
		if ip := net.ParseIP(u.Host); strings.EqualFold(u.Host, "localhost") || ip != nil && ip.IsLoopback() {
			name += " on " + host
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
