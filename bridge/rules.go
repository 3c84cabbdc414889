package bridge

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/subjects"
)

// Format is the form in which a message's payload is stored.
type Format uint8

const (
	// Raw stores the device's bytes unchanged.
	Raw Format = iota
	// Envelope wraps a JSON payload in an object with topic, tenant, device, type, user
	// and time.
	Envelope
)

// Rules are the part of validation that does not change during the life of a lane.
// [limit.Limits] are the part that may change.
type Rules struct {
	// Topics are the routes from topics to subjects. Each pattern has
	// {tenant} and {device}.
	Topics *subjects.Set
	// Formats has the format of each route; nil: Raw for all.
	Formats []Format
	// Attested is the prefix of attested topics; nil: topics are plain, and only the
	// broker's ACL controls who may publish what.
	Attested *subjects.Prefix
	// ForwardRetained forwards the retained copies that a broker sends on
	// subscribe; otherwise they are counted and acknowledged.
	ForwardRetained bool
	// Quarantine stores rejected messages, within [limit.Limits]; otherwise they are
	// only counted.
	Quarantine bool
	// Registry knows the devices' certificates; nil: a matching common name suffices.
	// It needs attested topics.
	Registry Registry
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
	if r.Registry != nil && r.Attested == nil {
		return errors.New("a certificate registry on plain topics, which name no certificate")
	}
	return nil
}

func (r *Rules) format(route int) Format {
	if r.Formats == nil {
		return Raw
	}
	return r.Formats[route]
}
