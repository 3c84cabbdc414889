// Package registry fills the bridge's table of certificates from where they are
// kept: a NATS KV bucket or a PostgreSQL table. Lookups are the table's business
// (bridge.Certificates) and wait for nothing here.
package registry

import (
	"context"
	"time"
)

// Source is a registry that is being followed.
type Source interface {
	// Run follows the source until ctx ends.
	Run(ctx context.Context)
	// Loaded is closed when the registry has been read whole for the first
	// time. Until then no message may be judged.
	Loaded() <-chan struct{}
	// State tells how it stands.
	State() State
}

// State is how a registry stands.
type State struct {
	Kind    string `json:"kind"`
	Entries int    `json:"entries"`
	// LoadedAt is when it was last read whole; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// StaleSince: from then on changes may have been missed, and the last known
	// state serves. Zero: it is up to date.
	StaleSince time.Time `json:"stale_since,omitzero"`
	// Problem is why; empty where it is up to date.
	Problem string `json:"problem,omitempty"`
	Advice  string `json:"advice,omitempty"`
	// Refused counts entries that cannot be read: what was known of them stays.
	Refused int `json:"refused"`
	// RefusedEntries are some of them, with the reason.
	RefusedEntries []Refusal `json:"refused_entries,omitempty"`
}

// Stale tells whether changes may have been missed.
func (s State) Stale() bool { return !s.StaleSince.IsZero() }

// Refusal is an entry that cannot be read.
type Refusal struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// maxRefusals bounds what State shows of the refused entries.
const maxRefusals = 20
