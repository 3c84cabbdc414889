// Package registry fills the bridge's table of certificates from a NATS KV bucket or a PostgreSQL
// table. Lookups only use the table in memory (certificates.Live) and never wait for this package.
package registry

import (
	"context"
	"errors"
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

// newState returns the state of a source whose last complete reading was at loadedAt.
func newState(kind string, loadedAt time.Time, followed *health.Condition) State {
	s := State{Kind: kind, LoadedAt: loadedAt}
	for _, p := range followed.Problems() {
		s.StaleSince, s.Problem, s.Advice = p.Since, p.Problem, p.Advice
	}
	return s
}

// newFollowed returns the condition that a source is up to date. Initially it is not.
func newFollowed(log zerolog.Logger, certificates *certificates.Live) *health.Condition {
	return health.New(health.Options{
		Component: "registry", Log: log, Ended: "certificate registry up to date", Initial: errors.New("not read yet"),
		Fields: func(e *zerolog.Event, err error) {
			if err == nil {
				e.Int("entries", certificates.Table().Len())
			}
		},
	})
}

// notFollowed records the reason why a source is not up to date. Its last complete reading was at
// loadedAt.
func notFollowed(followed *health.Condition, loadedAt time.Time, err error) {
	if loadedAt.IsZero() {
		followed.SetAs(zerolog.ErrorLevel, "certificate registry not read yet; no message is taken", err)
		return
	}
	followed.SetAs(zerolog.WarnLevel, "certificate registry stale, using the last known state", err)
}

// Stale reports whether changes may have been missed.
func (s State) Stale() bool { return !s.StaleSince.IsZero() }
