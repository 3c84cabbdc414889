package config

import "time"

// orderTimeout is the longest head timeout that keeps order on R3: nats-server's
// shortest election takes 4 s. With 10 s and a frozen leader, 998 messages of
// the next leader overtook (measured).
const orderTimeout = 3 * time.Second

func (c *Config) warn() {
	if c.NATS.AckTimeout > orderTimeout && !c.Strict() && c.NATS.Mode != LeafMode {
		c.Warn("nats.ack_timeout", "above 3s a frozen leader of a replicated stream can let later messages overtake earlier ones")
	}
	if c.Lanes.Partitions.Auto && c.StateDir != "" {
		c.Warn("state_dir", "is not used with lanes.partitions auto: a partition's journal would become stale while another replica leases it, and the broker's ids need none")
	}
	if c.Lanes.Partitions.Auto && c.Limits.Tenant.Rate > 0 {
		c.Warn("limits.tenant", "is counted by each replica for itself: a tenant with devices in the partitions of several may send as often as all of these allow together")
	}
	if !c.Tracing.Endpoint.IsZero() && c.Tracing.Ratio == 0 {
		c.Warn("tracing.endpoint", "is not used while tracing.ratio is 0: no message is sampled")
	}
	if c.Identity.Mode != IdentityOff {
		return
	}
	c.Warn("identity.mode", "off: only the broker's ACL controls which client may publish as which device; no CN is checked and messages have no Bridge-Cn")
	if c.StateDir == "" {
		c.Warn("state_dir", "empty: message ids of plain topics are kept in memory, and a crash of the bridge may duplicate what was in flight")
	}
}
