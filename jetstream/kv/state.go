package kv

import (
	"errors"
	"time"
)

// State is the state of following a bucket.
type State struct {
	// Live means that every change arrives immediately.
	Live  bool      `json:"live"`
	Since time.Time `json:"since"` // when Live or Missing last changed
	// Err is the reason why the bucket is not followed, such as a [MissingError] or a
	// conn.PermissionError; nil if Live.
	Err error `json:"-"`
	// LoadedAt is when the bucket was last read completely; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// ChangedAt is when the newest entry read was written.
	ChangedAt time.Time `json:"changed_at,omitzero"`
}

// State returns the current state.
func (b *Bucket) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Missing reports whether the bucket does not exist.
func (s State) Missing() bool {
	_, missing := errors.AsType[*MissingError](s.Err)
	return missing
}

// MissingError means that the bucket does not exist.
type MissingError struct{ Bucket string }

// Error implements error.
func (*MissingError) Error() string { return "the bucket does not exist" }

func (b *Bucket) setLive(r *reading, newEntries bool) {
	b.mu.Lock()
	s := b.state
	s.Err = nil
	if !s.Live {
		s.Live, s.Since = true, time.Now()
	}
	if !r.reported {
		s.LoadedAt, r.reported = time.Now(), true
	}
	if newEntries {
		s.ChangedAt = r.changedAt
	}
	changed := s.Live != b.state.Live
	b.state = s
	b.mu.Unlock()
	if changed {
		b.o.Changed(s)
	}
}

func (b *Bucket) setStale(err error) {
	b.mu.Lock()
	s := b.state
	s.Live, s.Err = false, err
	if b.state.Live || s.Missing() != b.state.Missing() {
		s.Since = time.Now()
	}
	changed := s.Live != b.state.Live || b.state.Err == nil || s.Err.Error() != b.state.Err.Error()
	b.state = s
	b.mu.Unlock()
	if changed {
		b.o.Changed(s)
	}
}
