// Package registry fills the bridge's table of certificates from where they are
// kept: a NATS KV bucket or a PostgreSQL table. Lookups are the table's business
// (certificates.Live) and wait for nothing here.
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
	// Loaded is closed when the registry has been read whole for the first time. Until then no
	// message may be validated.
	Loaded() <-chan struct{}
	// State returns the state of the source.
	State() State
}

// State describes a registry.
type State struct {
	Kind    string `json:"kind"`
	Entries int    `json:"entries"`
	// LoadedAt is when it was last read whole; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// StaleSince is the time from which on changes may have been missed, and the last known
	// state is used. Zero: it is up to date.
	StaleSince time.Time `json:"stale_since,omitzero"`
	// Problem is why; empty where it is up to date.
	Problem string `json:"problem,omitempty"`
	Advice  string `json:"advice,omitempty"`
	// Refused counts entries that cannot be read: what was known of them stays.
	Refused int `json:"refused"`
	// RefusedEntries are some of them, with the reason.
	RefusedEntries []health.Refusal `json:"refused_entries,omitempty"`
}

// newState is the state of a source that was last read whole at loadedAt.
func newState(kind string, loadedAt time.Time, followed *health.Condition) State {
	s := State{Kind: kind, LoadedAt: loadedAt}
	for _, p := range followed.Problems() {
		s.StaleSince, s.Problem, s.Advice = p.Since, p.Problem, p.Advice
	}
	return s
}

// newFollowed is whether a source is up to date; at first it has not been read.
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

// notFollowed notes why a source is not up to date, which was last read whole at loadedAt.
func notFollowed(followed *health.Condition, loadedAt time.Time, err error) {
	if loadedAt.IsZero() {
		followed.SetAs(zerolog.ErrorLevel, "certificate registry not read yet; no message is taken", err)
		return
	}
	followed.SetAs(zerolog.WarnLevel, "certificate registry stale, using the last known state", err)
}

// Stale reports whether changes may have been missed.
func (s State) Stale() bool { return !s.StaleSince.IsZero() }
