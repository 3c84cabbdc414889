package limit

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Limits are the rules that may change while lanes run.
type Limits struct {
	// MaxPayload is the maximum length of a payload, in bytes.
	MaxPayload int
	// Subjects is the maximum number of subjects per device, not counting the names of tenant and
	// device in them. 0: no limit.
	Subjects int
	Device   Rate // of each device
	Tenant   Rate // of each tenant, all its devices together
	// Quarantine bounds each device's quarantined messages. A message of up to 2 KiB counts as one,
	// a larger one as one per KiB.
	Quarantine Rate
}

// Override is a rate that replaces the one in [Limits] for one device, for each device of a tenant,
// or for a tenant as a whole.
type Override struct {
	Tenant string
	Device string // empty: see Devices
	// Devices means that the rate applies to each device of the tenant without an override of its
	// own. If false, and Device is empty, the rate applies to the tenant as a whole.
	Devices bool
	Rate    Rate
}

// Live contains the current limits. All lanes share one. Each lane reads it once per message, which
// costs one atomic load. Safe for concurrent use.
//
// A change grants nothing: a device keeps what it had left under the old limit, up to the new
// burst, from the time of the change on (see Meter.convert).
type Live struct {
	now     func() int64
	rateIDs rateIDs
	current atomic.Pointer[Snapshot]

	mu        sync.Mutex // one change at a time
	overrides []Override
}

// Limit is a rate and its meter.
type Limit struct {
	Rate
	Meter
}

// Snapshot contains the limits at one point in time. It is immutable.
type Snapshot struct {
	Limits
	device, tenant, quarantine *Limit
	tenants                    map[string]*tenantLimits // nil: no overrides
}

// tenantLimits are the overrides of one tenant.
type tenantLimits struct {
	total   *Limit // of the tenant; nil: none
	devices *Limit // of each of its devices; nil: none
	device  map[string]*Limit
}

// NewLive returns a Live with these limits. now is the clock, in ns since the epoch; nil means
// time.Now.
func NewLive(l Limits, now func() int64) (*Live, error) {
	if now == nil {
		now = func() int64 { return time.Now().UnixNano() }
	}
	v := &Live{now: now}
	return v, v.Set(l)
}

// Set replaces the limits. Overrides remain.
func (v *Live) Set(l Limits) error {
	if l.MaxPayload <= 0 {
		return errors.New("the payload limit is not positive")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(l)
	return nil
}

// SetOverrides replaces all overrides. Of two overrides for the same device or tenant, the later
// one applies.
func (v *Live) SetOverrides(all []Override) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.overrides = all
	v.put(v.current.Load().Limits)
}

// Limits returns the limits that apply where there is no override.
func (v *Live) Limits() Limits { return v.current.Load().Limits }

// Snapshot returns the current limits.
func (v *Live) Snapshot() *Snapshot { return v.current.Load() }

// put builds a new snapshot. An unchanged limit keeps its meter, which includes the time since when
// it applies.
func (v *Live) put(l Limits) {
	old := v.current.Load()
	if old == nil {
		old = &Snapshot{}
	}
	since := v.now()
	keep := func(was *Limit, r Rate) *Limit {
		if was != nil && was.Rate == r {
			return was
		}
		return &Limit{r, v.rateIDs.meter(r, since)}
	}
	s := &Snapshot{
		Limits: l, device: keep(old.device, l.Device), tenant: keep(old.tenant, l.Tenant),
		quarantine: keep(old.quarantine, l.Quarantine),
	}
	for _, o := range v.overrides {
		if s.tenants == nil {
			s.tenants = map[string]*tenantLimits{}
		}
		t, was := s.tenants[o.Tenant], old.tenants[o.Tenant]
		if t == nil {
			t = &tenantLimits{}
			s.tenants[o.Tenant] = t
		}
		if was == nil {
			was = &tenantLimits{}
		}
		switch {
		case o.Device != "":
			if t.device == nil {
				t.device = map[string]*Limit{}
			}
			t.device[o.Device] = keep(was.device[o.Device], o.Rate)
		case o.Devices:
			t.devices = keep(was.devices, o.Rate)
		default:
			t.total = keep(was.total, o.Rate)
		}
	}
	v.current.Store(s)
}

// OfDevice returns the limit of a device.
func (s *Snapshot) OfDevice(tenant, device []byte) *Limit {
	if s.tenants == nil {
		return s.device
	}
	t := s.tenants[string(tenant)]
	if t == nil {
		return s.device
	}
	if own := t.device[string(device)]; own != nil {
		return own
	}
	if t.devices != nil {
		return t.devices
	}
	return s.device
}

// OfQuarantine returns the limit of each device's messages in quarantine.
func (s *Snapshot) OfQuarantine() *Limit { return s.quarantine }

// OfTenant returns the limit of a tenant as a whole.
func (s *Snapshot) OfTenant(tenant []byte) *Limit {
	if s.tenants == nil {
		return s.tenant
	}
	if t := s.tenants[string(tenant)]; t != nil && t.total != nil {
		return t.total
	}
	return s.tenant
}
