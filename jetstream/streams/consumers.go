package streams

import (
	"fmt"
	"slices"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Defaults of [ConsumerSpec].
const (
	DefaultAckWait       = 30 * time.Second
	DefaultMaxAckPending = 10_000
)

// ConsumerSpec is a durable pull consumer with explicit acknowledgement that starts at the oldest
// message. The bridge itself does not consume. These consumers are for ingest, and are created here
// so that messages from before the first worker are not missed.
type ConsumerSpec struct {
	Stream      string
	Name        string
	Description string // set on creation, never compared
	// FilterSubjects selects the messages to deliver. Empty: the whole stream.
	FilterSubjects []string
	AckWait        time.Duration // zero: DefaultAckWait
	MaxAckPending  int           // zero: DefaultMaxAckPending; -1: no limit
	MaxDeliver     int           // zero: no limit
}

func (c ConsumerSpec) key() string { return c.Stream + "/" + c.Name }

func (c ConsumerSpec) withDefaults() ConsumerSpec {
	if c.AckWait <= 0 {
		c.AckWait = DefaultAckWait
	}
	if c.MaxAckPending == 0 {
		c.MaxAckPending = DefaultMaxAckPending
	}
	c.MaxAckPending = max(c.MaxAckPending, -1)
	if c.MaxDeliver <= 0 {
		c.MaxDeliver = -1
	}
	return c
}

func (c ConsumerSpec) config() natsjs.ConsumerConfig {
	cfg := natsjs.ConsumerConfig{
		Durable: c.Name, Description: c.Description,
		AckPolicy: natsjs.AckExplicitPolicy, DeliverPolicy: natsjs.DeliverAllPolicy,
	}
	c.applyTo(&cfg)
	return cfg
}

// applyTo sets the fields of the spec that nats-server can change.
func (c ConsumerSpec) applyTo(cfg *natsjs.ConsumerConfig) {
	c = c.withDefaults()
	cfg.FilterSubject, cfg.FilterSubjects = "", nil
	if len(c.FilterSubjects) == 1 {
		// The single form puts the subject into the API's subject, where permissions can match it.
		cfg.FilterSubject = c.FilterSubjects[0]
	} else if len(c.FilterSubjects) > 1 {
		cfg.FilterSubjects = slices.Clone(c.FilterSubjects)
	}
	cfg.AckWait, cfg.MaxAckPending, cfg.MaxDeliver = c.AckWait, c.MaxAckPending, c.MaxDeliver
	cfg.BackOff = nil // it would override AckWait
	cfg.HeadersOnly, cfg.InactiveThreshold = false, 0
}

func (c ConsumerSpec) validate(streams map[string]bool) []error {
	var errs []error
	if !ValidName(c.Name) {
		return []error{fmt.Errorf("consumer name %q: must be 1 to 255 bytes without space, '.', '*', '>', '/' or '\\'", c.Name)}
	}
	if !streams[c.Stream] {
		errs = append(errs, fmt.Errorf("consumer %s: no stream %q is declared", c.Name, c.Stream))
	}
	for i, filter := range c.FilterSubjects {
		if !validFilter(filter) {
			errs = append(errs, fmt.Errorf("consumer %s: filter subject %q is not valid", c.key(), filter))
			continue
		}
		for _, other := range c.FilterSubjects[:i] {
			if validFilter(other) && overlap(filter, other) {
				errs = append(errs, fmt.Errorf("consumer %s: filter subjects %s and %s overlap", c.key(), other, filter))
			}
		}
	}
	return errs
}
