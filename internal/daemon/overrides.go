package daemon

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/registry"
	"mqtt-nats-bridge/jetstream/kv"
)

// overrides are the limits in the KV bucket of limits.bucket: they go into the
// lanes' limits as they are written. It is the bucket's reader.
type overrides struct {
	limits   *bridge.LiveLimits
	idle     atomic.Int64 // limits.idle, ns
	refusals *registry.Refusals
	log      zerolog.Logger
	name     string
	bucket   *kv.Bucket

	count atomic.Int64
	// Of the goroutine that follows the bucket:
	entries map[string]bridge.Override // by key
	next    map[string]bridge.Override // of the reading in progress; nil: none
	changed []string                   // keys since the last Done
}

func newOverrides(c *config.Config, limits *bridge.LiveLimits, log zerolog.Logger) *overrides {
	log = log.With().Str("bucket", c.Limits.Bucket).Logger()
	o := &overrides{
		limits: limits, name: c.Limits.Bucket, log: log,
		refusals: registry.NewRefusals("limits", "limit", log), entries: map[string]bridge.Override{},
	}
	o.idle.Store(int64(c.Limits.Idle))
	return o
}

// Begin implements [kv.Reader].
func (o *overrides) Begin() {
	o.refusals.Begin()
	o.next = map[string]bridge.Override{}
}

func (o *overrides) table() map[string]bridge.Override {
	if o.next != nil {
		return o.next
	}
	return o.entries
}

// Put implements [kv.Reader].
func (o *overrides) Put(key string, value []byte, _ uint64) {
	override, err := plan.ParseOverrideKey(key)
	if err == nil {
		var limit config.RateLimit
		limit, err = config.ParseOverride(value, time.Duration(o.idle.Load()))
		override.Rate = plan.Rate(limit)
	}
	if err != nil {
		o.refusals.Refuse(key, err)
		if before, ok := o.entries[key]; ok {
			o.table()[key] = before // the last good one stays
		}
		return
	}
	o.refusals.Accept(key)
	o.set(key, override)
}

func (o *overrides) set(key string, override bridge.Override) {
	o.table()[key] = override
	if o.next == nil {
		o.changed = append(o.changed, key)
	}
}

// Delete implements [kv.Reader].
func (o *overrides) Delete(key string, _ uint64) {
	o.refusals.Accept(key)
	if _, ok := o.table()[key]; ok {
		delete(o.table(), key)
		if o.next == nil {
			o.changed = append(o.changed, key)
		}
	}
}

// Done implements [kv.Reader]: what has been read comes into force.
func (o *overrides) Done() {
	o.refusals.Done()
	if o.next != nil {
		for key, now := range o.next {
			if was, ok := o.entries[key]; !ok || was != now {
				o.changed = append(o.changed, key)
			}
		}
		for key := range o.entries {
			if _, ok := o.next[key]; !ok {
				o.changed = append(o.changed, key)
			}
		}
		o.entries, o.next = o.next, nil
	}
	if len(o.changed) == 0 {
		return
	}
	all := slices.Collect(maps.Values(o.entries))
	o.limits.SetOverrides(all)
	o.count.Store(int64(len(all)))
	slices.Sort(o.changed)
	o.changed = slices.Compact(o.changed)
	const shown = 10
	o.log.Info().Int("overrides", len(all)).Int("changed", len(o.changed)).
		Strs("keys", o.changed[:min(len(o.changed), shown)]).Msg("limits changed")
	o.changed = o.changed[:0]
}

// told logs how the bucket is followed, once for each change.
func (o *overrides) told(s kv.State) {
	switch {
	case s.Live:
		o.log.Info().Int64("overrides", o.count.Load()).Msg("limits are followed in their bucket")
	case s.Missing() && s.LoadedAt.IsZero():
		o.log.Info().Str("advice", advice.For(s.Err)).Msg("there is no bucket of limits; those of the configuration hold")
	default:
		line := o.log.Warn().Str("component", "limits").AnErr("problem", s.Err)
		if text := advice.For(s.Err); text != "" {
			line.Str("advice", text)
		}
		line.Msg("limits are not followed in their bucket; the last known ones hold")
	}
}

// OverridesStatus is about the limits in the bucket.
type OverridesStatus struct {
	// Bucket is empty where none is followed.
	Bucket string `json:"bucket"`
	kv.State
	// Problem is why the bucket is not followed; empty where it is.
	Problem   string `json:"problem,omitempty"`
	Advice    string `json:"advice,omitempty"`
	Missing   bool   `json:"missing,omitempty"` // it does not exist
	Overrides int    `json:"overrides"`
	// Refused counts keys that cannot be read: what they said before holds.
	Refused     int                `json:"refused"`
	RefusedKeys []registry.Refusal `json:"refused_keys,omitempty"`
}

func (o *overrides) status() OverridesStatus {
	if o == nil {
		return OverridesStatus{}
	}
	s := OverridesStatus{Bucket: o.name, State: o.bucket.State(), Overrides: int(o.count.Load())}
	if s.Err != nil {
		s.Problem, s.Advice, s.Missing = s.Err.Error(), advice.For(s.Err), s.State.Missing()
	}
	s.Refused, s.RefusedKeys = o.refusals.List()
	return s
}

// warning is what is wrong with the bucket and does not stop the bridge; false:
// nothing. A bucket that was never there is no more than a choice.
func (o *overrides) warning() (Problem, bool) {
	if o == nil {
		return Problem{}, false
	}
	s := o.bucket.State()
	if s.Live || s.LoadedAt.IsZero() && (s.Missing() || time.Since(s.Since) < streamPatience) {
		return Problem{}, false
	}
	return Problem{
		Component: "limits", Advice: advice.For(s.Err), Since: s.Since,
		Problem: fmt.Sprintf("bucket %s is not followed, the limits last known hold: %v", o.name, s.Err),
	}, true
}
