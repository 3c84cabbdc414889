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

// LeafOptions is the leaf node that c describes.
func LeafOptions(c *config.Config, streams []streams.Spec) leaf.Options {
	l := c.NATS.Leaf
	return leaf.Options{
		Hub: account.Options(c.NATS.Account, c.MQTT.ClientID), URLs: l.URL.String(), Domain: l.Domain, StoreDir: l.StoreDir,
		MaxBytes: int64(l.MaxBytes), MaxPayload: int32(l.MaxPayload), SyncInterval: l.SyncInterval,
		DuplicateWindow: c.Streams.DuplicateWindow, Streams: streams,
	}
}

// EMQXClient returns a client of the API that the configuration names.
func EMQXClient(e config.EMQX) *emqx.Client {
	return emqx.New(emqx.Options{API: e.API.String(), Key: e.Key, Secret: e.CurrentSecret, TLS: e.ClientTLS})
}

// LeaseBucket is the bucket of the leases that c describes.
func LeaseBucket(c *config.Config, nc *nats.Conn, js natsjs.JetStream) lease.BucketOptions {
	return lease.BucketOptions{
		NATS: nc, JS: js, Name: c.Lanes.Bucket, Stem: c.MQTT.ClientID,
		Create: c.Streams.Manage == config.ManageCreate, TTL: c.Lanes.TTL, Replicas: c.Streams.Replicas,
	}
}

// BrokerIdentity is what a bridge on host calls its broker in the leases: the addresses in
// mqtt.url in any order, with the host where an address means another machine on each.
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
