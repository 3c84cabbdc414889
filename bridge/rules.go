package bridge

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/subjects"
)

// Format is the form in which payloads are stored.
type Format uint8

const (
	// Raw stores the device's bytes unchanged.
	Raw Format = iota
	// Envelope wraps a JSON payload in an object with topic, tenant, device, type, user and time.
	Envelope
)

// Rules are the part of validation that is fixed for the life of a lane. [limit.Limits] are the
// part that may change.
type Rules struct {
	// Topics are the routes from topics to subjects. Each pattern contains {tenant} and {device}.
	Topics *subjects.Set
	// Formats contains the format of each route; nil means Raw for all.
	Formats []Format
	// Attested is the prefix of attested topics. If nil, topics are plain, and only the broker's
	// ACL controls which client may publish to which topic.
	Attested *subjects.Prefix
	// ForwardRetained forwards the retained messages that a broker sends on subscribe. Otherwise
	// they are counted and acknowledged.
	ForwardRetained bool
	// Quarantine stores rejected messages, within [limit.Limits]. Otherwise they are only counted.
	Quarantine bool
	// Registry looks up the devices' certificates. If nil, a matching common name suffices. It
	// requires attested topics.
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
		return errors.New("a certificate registry requires attested topics: plain topics name no certificate")
	}
	return nil
}

func (r *Rules) format(route int) Format {
	if r.Formats == nil {
		return Raw
	}
	return r.Formats[route]
}
