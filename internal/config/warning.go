package config

import "time"

// orderTimeout is the longest ack timeout that keeps the order on R3 streams: nats-server's shortest
// election takes 4 s. With 10 s and a frozen leader, 998 later messages were stored first (measured).
const orderTimeout = 3 * time.Second

func (c *Config) warn() {
	if c.NATS.AckTimeout > orderTimeout && !c.Strict() && c.NATS.Mode != LeafMode {
		c.Warn("nats.ack_timeout", "is above 3s: if the leader of a replicated stream freezes, later messages can be stored before earlier ones")
	}
	if c.Lanes.Partitions.Auto && c.StateDir != "" {
		c.Warn("state_dir", "is not used with lanes.partitions auto: message ids of attested topics need no journal")
	}
	if c.Lanes.Partitions.Auto && c.Limits.Tenant.Rate > 0 {
		c.Warn("limits.tenant", "applies per replica: a tenant whose devices are in partitions of several replicas can send up to the sum of their limits")
	}
	if !c.Tracing.Endpoint.IsZero() && c.Tracing.Ratio == 0 {
		c.Warn("tracing.endpoint", "is not used while tracing.ratio is 0: no message is sampled")
	}
	if c.Identity.Mode != IdentityOff {
		return
	}
	c.Warn("identity.mode", "is off: only the broker's ACL controls which client may publish as which device; no CN is checked and messages have no header Bridge-Cn")
	if c.StateDir == "" {
		c.Warn("state_dir", "is empty: message ids of plain topics are kept in memory, and a crash of the bridge may duplicate messages in flight")
	}
}
