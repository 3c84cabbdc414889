// Package streams manages declared streams and consumers: validation, their difference from the
// existing ones, and its application.
package streams

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// defaultDuplicateWindow is nats-server's default.
const defaultDuplicateWindow = 2 * time.Minute

// Spec is the desired configuration of a stream. The zero value of a field means nats-server's
// default. Settings that a spec does not cover (compression, placement, sources …) are not changed
// in an existing stream.
type Spec struct {
	Name        string
	Description string // set on creation, never compared
	Subjects    []string
	Storage     natsjs.StorageType     // zero: file
	Retention   natsjs.RetentionPolicy // zero: limits
	Discard     natsjs.DiscardPolicy   // zero: old
	MaxAge      time.Duration          // zero: no limit
	// MaxBytes is reserved from the storage limit of the account and the server as soon as the
	// stream exists. Zero: no limit.
	MaxBytes          int64
	MaxMsgs           int64 // zero: no limit
	MaxMsgsPerSubject int64 // zero: no limit
	// DuplicateWindow must outlast an outage between storing and acknowledging a message. Zero: 2
	// min, or MaxAge if that is shorter.
	DuplicateWindow time.Duration
	Replicas        int // zero: 1
	// Sources are streams of leaf nodes that the stream must source, possibly among others. None:
	// sources are not compared.
	Sources []SourceSpec
}

// withDefaults applies nats-server's defaults (server/stream.go, checkStreamCfg), so that a spec
// can be compared with a stream's configuration.
func (s Spec) withDefaults() Spec {
	unlimited := func(v *int64) {
		if *v <= 0 {
			*v = -1
		}
	}
	unlimited(&s.MaxBytes)
	unlimited(&s.MaxMsgs)
	unlimited(&s.MaxMsgsPerSubject)
	s.MaxAge = max(s.MaxAge, 0)
	if s.DuplicateWindow <= 0 {
		s.DuplicateWindow = defaultDuplicateWindow
		if s.MaxAge > 0 {
			s.DuplicateWindow = min(s.DuplicateWindow, s.MaxAge)
		}
	}
	s.Replicas = max(s.Replicas, 1)
	return s
}

// config returns the configuration for creating the stream.
func (s Spec) config() natsjs.StreamConfig {
	// Direct gets allow `nats stream get` and `view` to read without the leader. natscli creates
	// streams that way too.
	cfg := natsjs.StreamConfig{Name: s.Name, Description: s.Description, AllowDirect: true}
	s.applyTo(&cfg)
	return cfg
}

// applyTo sets the settings that the spec covers and leaves the rest of cfg unchanged.
func (s Spec) applyTo(cfg *natsjs.StreamConfig) {
	s = s.withDefaults()
	cfg.Subjects = slices.Clone(s.Subjects)
	cfg.Storage, cfg.Retention, cfg.Discard = s.Storage, s.Retention, s.Discard
	cfg.MaxAge, cfg.MaxBytes, cfg.MaxMsgs = s.MaxAge, s.MaxBytes, s.MaxMsgs
	cfg.MaxMsgsPerSubject = s.MaxMsgsPerSubject
	cfg.Duplicates, cfg.Replicas = s.DuplicateWindow, s.Replicas
	cfg.Sources = addSources(cfg.Sources, s.Sources)
	// If the stream did not acknowledge, every message would stay in the bridge forever.
	cfg.NoAck = false
}

func (s Spec) validate() []error {
	var errs []error
	invalid := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("stream %s: "+format, append([]any{s.Name}, args...)...))
	}
	if !ValidName(s.Name) {
		return []error{fmt.Errorf("stream name %q: must be 1 to 255 bytes without space, '.', '*', '>', '/' or '\\'", s.Name)}
	}
	if len(s.Subjects) == 0 {
		invalid("no subjects")
	}
	for i, subject := range s.Subjects {
		if !validFilter(subject) {
			invalid("subject %q is not valid", subject)
			continue
		}
		for _, other := range s.Subjects[:i] {
			if validFilter(other) && overlap(subject, other) {
				errs = append(errs, &OverlapError{s.Name, subject, s.Name, other})
			}
		}
	}
	// These bounds are nats-server's.
	const minimum = 100 * time.Millisecond
	if s.MaxAge != 0 && s.MaxAge < minimum {
		invalid("max_age %s: must be at least %s, or 0 for no limit", s.MaxAge, minimum)
	}
	if s.DuplicateWindow != 0 && s.DuplicateWindow < minimum {
		invalid("duplicate_window %s: must be at least %s", s.DuplicateWindow, minimum)
	}
	if s.MaxAge > 0 && s.DuplicateWindow > s.MaxAge {
		invalid("duplicate_window %s is longer than max_age %s", formatDuration(s.DuplicateWindow), formatDuration(s.MaxAge))
	}
	if s.Replicas < 0 || s.Replicas > 5 {
		invalid("replicas %d: must be 1 to 5", s.Replicas)
	}
	return errs
}

// OverlapError means that a subject exists which would belong to both subjects. nats-server refuses
// that, within a stream and between two.
type OverlapError struct {
	Stream, Subject           string
	OtherStream, OtherSubject string // declared earlier
}

// Error returns a sentence that names both subjects and streams.
func (e *OverlapError) Error() string {
	if e.Stream == e.OtherStream {
		return fmt.Sprintf("stream %s: subjects %s and %s overlap", e.Stream, e.OtherSubject, e.Subject)
	}
	return fmt.Sprintf("stream %s: subject %s overlaps with %s of stream %s", e.Stream, e.Subject, e.OtherSubject, e.OtherStream)
}

// ValidateSpecs reports every error that can be detected without a server: invalid names, subjects
// that overlap within or between streams, consumers of streams that are not in the list. The errors
// are joined, with an [OverlapError] per overlap; nil: no errors.
func ValidateSpecs(streams []Spec, consumers []ConsumerSpec) error {
	var errs []error
	names := map[string]bool{}
	for i, s := range streams {
		errs = append(errs, s.validate()...)
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("stream %s: named twice", s.Name))
		}
		names[s.Name] = true
		for _, other := range streams[:i] {
			for _, subject := range s.Subjects {
				for _, taken := range other.Subjects {
					if validFilter(subject) && validFilter(taken) && overlap(subject, taken) {
						errs = append(errs, &OverlapError{s.Name, subject, other.Name, taken})
					}
				}
			}
		}
	}
	seen := map[string]bool{}
	for _, c := range consumers {
		errs = append(errs, c.validate(names)...)
		if seen[c.key()] {
			errs = append(errs, fmt.Errorf("consumer %s: named twice", c.key()))
		}
		seen[c.key()] = true
	}
	return errors.Join(errs...)
}

// ValidName reports whether nats-server accepts the name of a stream or consumer.
func ValidName(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r)
	})
}
