package daemon

import (
	"sync"
	"time"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/overrides"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/schema"
)

// reloads is the state of configuration reloads.
type reloads struct {
	mu      sync.Mutex
	running *config.Config // the effective configuration
	at      time.Time      // time of the last reload; zero: none
	restart []string
}

// Reload applies the settings of c that may change while the bridge runs: limits and the quarantine
// bound. It returns the paths that changed, including log.level, and the paths that differ and need
// a restart.
func (b *Bridge) Reload(c *config.Config) (changed, restart []string, err error) {
	r := &b.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	running, changed, restart := schema.Reload(r.running, c, // the command itself applies log.level
		"limits.payload", "limits.device", "limits.tenant", "limits.subjects", "limits.idle", "quarantine.per_device", "log.level")
	if err := b.limits.Set(plan.Limits(c)); err != nil {
		return nil, nil, err
	}
	b.devices.SetIdle(c.Limits.Idle)
	b.tenants.SetIdle(c.Limits.Idle)
	if o := b.dynamic.overrides; o != nil {
		o.SetIdle(c.Limits.Idle)
	}
	r.running, r.at, r.restart = running, time.Now(), restart
	return changed, restart, nil
}

// LimitsStatus contains the limits that apply without an override, and the state of the overrides.
type LimitsStatus struct {
	Payload    int              `json:"payload"`  // bytes
	Subjects   int              `json:"subjects"` // of each device; 0: no limit
	Device     limit.Rate       `json:"device"`
	Tenant     limit.Rate       `json:"tenant"`
	Quarantine limit.Rate       `json:"quarantine"` // of each device
	Overrides  overrides.Status `json:"overrides"`
}

// ReloadStatus is the result of the last reload.
type ReloadStatus struct {
	At time.Time `json:"at,omitzero"` // zero: no reload since the start
	// NeedsRestart lists the keys that differed in that configuration and need a restart.
	NeedsRestart []string `json:"needs_restart"`
}

func (b *Bridge) limitsStatus() LimitsStatus {
	l := b.limits.Limits()
	return LimitsStatus{
		Payload: l.MaxPayload, Subjects: l.Subjects, Device: l.Device, Tenant: l.Tenant, Quarantine: l.Quarantine,
		Overrides: b.dynamic.overrides.Status(),
	}
}

func (b *Bridge) reloadStatus() ReloadStatus {
	b.reloads.mu.Lock()
	defer b.reloads.mu.Unlock()
	return ReloadStatus{At: b.reloads.at, NeedsRestart: append([]string{}, b.reloads.restart...)}
}
