package bridge

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/subjects"
)

// Format is what is stored of a message's payload.
type Format uint8

const (
	// Raw stores the device's bytes, untouched.
	Raw Format = iota
	// Envelope wraps a JSON payload in an object that names topic, tenant,
	// device, type, user and time.
	Envelope
)

// Rules are what a message is judged by. They do not change once a lane has
// them.
type Rules struct {
	// Topics are the routes from topics to subjects. Each pattern has
	// {tenant} and {device}.
	Topics *subjects.Set
	// Formats has the format of each route; nil: Raw for all.
	Formats []Format
	// Attested is the prefix of attested topics; nil: topics are plain and
	// the broker's ACL alone says who may publish what.
	Attested *subjects.Prefix
	// MaxPayload is the longest payload, in bytes.
	MaxPayload int
	// ForwardRetained forwards the retained copies that a broker sends on
	// subscribe; otherwise they are counted and acknowledged.
	ForwardRetained bool
	Device          Rate
	Tenant          Rate
	Quarantine      QuarantineRules
}

// QuarantineRules bound what is stored of rejected messages.
type QuarantineRules struct {
	Store     bool // false: rejected messages are only counted
	PerDevice Rate
}

func (r *Rules) validate() error {
	if r.Topics == nil || r.Topics.Len() == 0 {
		return errors.New("no topics")
	}
	if r.Formats != nil && len(r.Formats) != r.Topics.Len() {
		return fmt.Errorf("%d formats for %d topics", len(r.Formats), r.Topics.Len())
	}
	for i := range r.Topics.Len() {
		if err := r.Topics.Route(i).Pattern.RequireDevice(); err != nil {
			return err
		}
	}
	if r.MaxPayload <= 0 {
		return errors.New("the payload limit is not positive")
	}
	return nil
}

func (r *Rules) format(route int) Format {
	if r.Formats == nil {
		return Raw
	}
	return r.Formats[route]
}
