// Package overrides follows the KV bucket limits.bucket and applies the limits of single tenants
// and devices to the lanes as soon as they are written.
package overrides

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/kv"
)

// Options configures a Follower. All fields are required.
type Options struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	Denied    *conn.Violations // of Conn
	Bucket    string
	Idle      time.Duration // limits.idle
	Limits    *limit.Live
	Log       zerolog.Logger
}

// Follower applies the limits in the bucket to the lanes. It implements [kv.Reader].
type Follower struct {
	limits   *limit.Live
	idle     atomic.Int64 // limits.idle, ns
	refusals *health.Refusals
	log      zerolog.Logger
	name     string
	bucket   *kv.Bucket

	count atomic.Int64
	// Used only by the goroutine that follows the bucket; no lock.
	entries map[string]limit.Override // by key
	next    map[string]limit.Override // being filled by a reading in progress; nil: none
	changed []string                  // keys since the last Done
}

// New returns a Follower that does nothing until Run.
func New(o Options) *Follower {
	log := o.Log.With().Str("bucket", o.Bucket).Logger()
	f := &Follower{
		limits: o.Limits, name: o.Bucket, log: log,
		refusals: health.NewRefusals("limits", "limit", log), entries: map[string]limit.Override{},
	}
	f.SetIdle(o.Idle)
	f.bucket = kv.NewBucket(kv.Options{
		Conn: o.Conn, JetStream: o.JetStream, Name: o.Bucket, Reader: f, Changed: f.changedState, Denied: o.Denied,
	})
	return f
}

// Run follows the bucket until ctx ends.
func (f *Follower) Run(ctx context.Context) { f.bucket.Run(ctx) }

// SetIdle changes limits.idle. Overrides read from now on must refill within this time.
func (f *Follower) SetIdle(idle time.Duration) { f.idle.Store(int64(idle)) }

// Begin implements [kv.Reader].
func (f *Follower) Begin() {
	f.refusals.Begin()
	f.next = map[string]limit.Override{}
}

func (f *Follower) table() map[string]limit.Override {
	if f.next != nil {
		return f.next
	}
	return f.entries
}

// Put implements [kv.Reader].
func (f *Follower) Put(key string, value []byte, _ uint64) {
	override, err := parseKey(key)
	if err == nil {
		var limit config.RateLimit
		limit, err = config.ParseOverride(value, time.Duration(f.idle.Load()))
		override.Rate = plan.Rate(limit)
	}
	if err != nil {
		f.refusals.Refuse(key, err)
		if before, ok := f.entries[key]; ok {
			f.table()[key] = before // keep the last valid one
		}
		return
	}
	f.refusals.Accept(key)
	f.table()[key] = override
	if f.next == nil {
		f.changed = append(f.changed, key)
	}
}

// Delete implements [kv.Reader].
func (f *Follower) Delete(key string, _ uint64) {
	f.refusals.Accept(key)
	if _, ok := f.table()[key]; ok {
		delete(f.table(), key)
		if f.next == nil {
			f.changed = append(f.changed, key)
		}
	}
}

// Done implements [kv.Reader]. It applies the limits read so far.
func (f *Follower) Done() {
	f.refusals.Done()
	if f.next != nil {
		for key, now := range f.next {
			if was, ok := f.entries[key]; !ok || was != now {
				f.changed = append(f.changed, key)
			}
		}
		for key := range f.entries {
			if _, ok := f.next[key]; !ok {
				f.changed = append(f.changed, key)
			}
		}
		f.entries, f.next = f.next, nil
	}
	if len(f.changed) == 0 {
		return
	}
	all := slices.Collect(maps.Values(f.entries))
	f.limits.SetOverrides(all)
	f.count.Store(int64(len(all)))
	slices.Sort(f.changed)
	f.changed = slices.Compact(f.changed)
	const shown = 10
	f.log.Info().Int("overrides", len(all)).Int("changed", len(f.changed)).
		Strs("keys", f.changed[:min(len(f.changed), shown)]).Msg("limits changed")
	f.changed = f.changed[:0]
}

// changedState logs each change of the bucket's state once.
func (f *Follower) changedState(s kv.State) {
	switch {
	case s.Live:
		f.log.Info().Int64("overrides", f.count.Load()).Msg("following limits in KV bucket")
	case s.Missing() && s.LoadedAt.IsZero():
		f.log.Info().Func(advice.Field(advice.For(s.Err))).Msg("KV bucket not found, using configured limits")
	default:
		f.log.Warn().Str("component", "limits").AnErr("problem", s.Err).Func(advice.Field(advice.For(s.Err))).
			Msg("KV bucket of limits unavailable, using last known limits")
	}
}

// Status describes the limits in the bucket.
type Status struct {
	// Bucket is empty if none is configured.
	Bucket string `json:"bucket"`
	kv.State
	// Problem is the reason why the bucket is not followed; empty: it is.
	Problem   string `json:"problem,omitempty"`
	Advice    string `json:"advice,omitempty"`
	Missing   bool   `json:"missing,omitempty"` // it does not exist
	Overrides int    `json:"overrides"`
	// Refused is the number of invalid keys. Their last valid values are kept.
	Refused     int              `json:"refused"`
	RefusedKeys []health.Refusal `json:"refused_keys,omitempty"`
}

// Status returns the state of the limits; the zero Status if no bucket is configured.
func (f *Follower) Status() Status {
	if f == nil {
		return Status{}
	}
	s := Status{Bucket: f.name, State: f.bucket.State(), Overrides: int(f.count.Load())}
	if s.Err != nil {
		s.Problem, s.Advice, s.Missing = s.Err.Error(), advice.For(s.Err), s.State.Missing()
	}
	s.Refused, s.RefusedKeys = f.refusals.List()
	return s
}

// firstRead is the time that the first reading may take before a warning.
const firstRead = 2 * time.Second

// Warning returns the reason why the bucket is not followed, or false if there is no problem. A
// bucket that never existed is not a problem: it is optional.
func (f *Follower) Warning() (health.Problem, bool) {
	if f == nil {
		return health.Problem{}, false
	}
	s := f.bucket.State()
	if s.Live || s.LoadedAt.IsZero() && (s.Missing() || time.Since(s.Since) < firstRead) {
		return health.Problem{}, false
	}
	return health.Problem{
		Component: "limits", Advice: advice.For(s.Err), Since: s.Since,
		Problem: fmt.Sprintf("bucket %s is not followed, the last known limits apply: %v", f.name, s.Err),
	}, true
}
