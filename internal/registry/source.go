// Package registry fills the bridge's table of certificates from a NATS KV bucket or a PostgreSQL
// table. Lookups only use the table in memory (certificates.Live) and never wait for this package.
package registry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/health"
)

// Source is a registry that is being followed.
type Source interface {
	// Run follows the source until ctx ends.
	Run(ctx context.Context)
	// Loaded is closed when the whole registry has been read for the first time. Until then no
	// message may be validated.
	Loaded() <-chan struct{}
	// State returns the state of the source.
	State() State
}

// None is the source if there is no registry: messages may be validated immediately.
type None struct{}

// Run implements [Source].
func (None) Run(context.Context) {}

// Loaded implements [Source].
func (None) Loaded() <-chan struct{} {
	loaded := make(chan struct{})
	close(loaded)
	return loaded
}

// State implements [Source].
func (None) State() State { return State{Kind: "none"} }

// State describes a registry.
type State struct {
	Kind    string `json:"kind"`
	Entries int    `json:"entries"`
	// LoadedAt is when the whole registry was last read; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// StaleSince is the time since which changes may have been missed and the last known state is
	// used. Zero: it is up to date.
	StaleSince time.Time `json:"stale_since,omitzero"`
	// Problem is the reason why it is stale; empty: it is up to date.
	Problem string `json:"problem,omitempty"`
	Advice  string `json:"advice,omitempty"`
	// Refused is the number of invalid entries. Their last valid values are kept.
	Refused int `json:"refused"`
	// RefusedEntries lists some of the invalid entries with the reason.
	RefusedEntries []health.Refusal `json:"refused_entries,omitempty"`
}

// Stale reports whether changes may have been missed.
func (s State) Stale() bool { return !s.StaleSince.IsZero() }

// follower is the part of a source that does not depend on its kind.
type follower struct {
	kind         string
	certificates *certificates.Live // to fill
	followed     *health.Condition  // the certificates are up to date; initially they are not
	loaded       chan struct{}
	loadedOnce   sync.Once
	loadedAt     atomic.Int64 // last complete reading, ns since the epoch; 0: never
}

func newFollower(kind string, c *certificates.Live, log zerolog.Logger) *follower {
	return &follower{kind: kind, certificates: c, loaded: make(chan struct{}), followed: health.New(health.Options{
		Component: "registry", Log: log, Ended: "certificate registry up to date", Initial: errors.New("not read yet"),
		Fields: func(e *zerolog.Event, err error) {
			if err == nil {
				e.Int("entries", c.Table().Len())
			}
		},
	})}
}

// Loaded implements [Source].
func (f *follower) Loaded() <-chan struct{} { return f.loaded }

// State implements [Source].
func (f *follower) State() State {
	s := State{Kind: f.kind, Entries: f.certificates.Table().Len()}
	if ns := f.loadedAt.Load(); ns != 0 {
		s.LoadedAt = time.Unix(0, ns)
	}
	for _, p := range f.followed.Problems() {
		s.StaleSince, s.Problem, s.Advice = p.Since, p.Problem, p.Advice
	}
	return s
}

// use replaces the certificates by those of a complete reading.
func (f *follower) use(table *certificates.Table) {
	table.Compact()
	f.certificates.Use(table)
	f.loadedAt.Store(time.Now().UnixNano())
	f.loadedOnce.Do(func() { close(f.loaded) })
}

// stale records the reason why the certificates are not up to date.
func (f *follower) stale(err error) {
	if f.loadedAt.Load() == 0 {
		f.followed.SetAs(zerolog.ErrorLevel, "certificate registry not read yet; no message is taken", err)
		return
	}
	f.followed.SetAs(zerolog.WarnLevel, "certificate registry stale, using the last known state", err)
}
