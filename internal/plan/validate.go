package plan

import (
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/postgres"
	"mqtt-nats-bridge/jetstream/streams"
	"mqtt-nats-bridge/subjects"
)

// Validate returns the errors that only the parsers of patterns, templates and stream subjects can
// detect, each with its place. It is meant for [config.Load], so c may contain other errors.
func Validate(c *config.Config) []config.Error { return validate(c).errs }

// validation contains the parsed patterns, templates and streams, and their errors.
type validation struct {
	config *config.Config
	errs   []config.Error
	prefix *subjects.Prefix // nil with plain topics
	// routes has one route per topic. The route of an invalid topic has no Pattern.
	routes    []subjects.Route
	streams   []streams.Spec
	consumers []streams.ConsumerSpec
}

func validate(c *config.Config) *validation {
	v := &validation{config: c, routes: make([]subjects.Route, len(c.Topics))}
	if c.Identity.Mode == config.Attested {
		prefix, err := subjects.ParsePrefix(c.Identity.Prefix)
		if err != nil {
			v.errorAt("identity.prefix", err)
		}
		v.prefix = prefix
	}
	if err := checkRegistry(c.Identity.Registry); err != nil {
		path := "identity.registry.database_url"
		if c.Identity.Registry.DatabaseURLFile != "" {
			path += "_file"
		}
		v.errorAt(path, err)
	}
	for i := range c.Topics {
		v.parseTopic(i)
		v.checkOverlap(i)
	}
	v.streams, v.consumers = streamPlans(c, v.routes)
	v.checkStreams()
	return v
}

func (v *validation) errorAt(path string, err error) {
	v.errs = append(v.errs, v.config.ErrorAt(path, err.Error()))
}

// subjectPath returns the path of the key that determines the subjects of a topic.
func (v *validation) subjectPath(i int) string {
	if v.config.Topics[i].Subject != "" {
		return fmt.Sprintf("topics[%d].subject", i)
	}
	return fmt.Sprintf("topics[%d].topic", i)
}

var errQuarantine = errors.New("its subjects would begin with quarantine, which is reserved for rejected messages; give it a different subject")

// parseTopic sets the route of a topic, or adds an error.
func (v *validation) parseTopic(i int) {
	t := v.config.Topics[i]
	pattern, err := subjects.ParsePattern(t.Topic)
	if err == nil {
		pattern, err = pattern.WithDevice(t.Tenant, t.Device)
	}
	if err == nil {
		err = pattern.RequireDevice()
	}
	if errors.Is(err, subjects.ErrShared) {
		err = fmt.Errorf("%w, set mqtt.share instead", err)
	}
	if err != nil {
		v.errorAt(fmt.Sprintf("topics[%d].topic", i), err)
		return
	}
	template := pattern.Template()
	if t.Subject != "" {
		template, err = subjects.ParseTemplate(t.Subject, pattern)
	}
	if err == nil {
		// A capture never shortens a subject. If this subject is invalid, all subjects of the topic are.
		if err = subjects.CheckSubject([]byte(template.StreamSubject())); err != nil {
			err = fmt.Errorf("none of its messages can be published: %w", err)
		}
	}
	if err == nil && strings.HasPrefix(template.StreamSubject()+".", bridge.QuarantineSubject+".") {
		err = errQuarantine
	}
	if err != nil {
		v.errorAt(v.subjectPath(i), err)
		return
	}
	v.routes[i] = subjects.Route{Pattern: pattern, Template: template}
}

// checkOverlap reports a topic that overlaps with an earlier one, and removes its route.
func (v *validation) checkOverlap(i int) {
	if v.routes[i].Pattern == nil {
		return
	}
	for j, earlier := range v.routes[:i] {
		if earlier.Pattern == nil {
			continue
		}
		if example, ok := subjects.Overlap(earlier.Pattern, v.routes[i].Pattern); ok {
			v.errorAt(fmt.Sprintf("topics[%d].topic", i),
				fmt.Errorf("%q overlaps with %q of topics[%d]: both match %q; change one of the two", v.routes[i].Pattern, earlier.Pattern, j, example))
			v.routes[i] = subjects.Route{}
			return
		}
	}
}

// checkStreams validates the streams. It also detects different topics with the same subjects.
func (v *validation) checkStreams() {
	err := streams.ValidateSpecs(v.streams, v.consumers)
	if err == nil {
		return
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		path := "streams"
		var overlap *streams.OverlapError
		if errors.As(err, &overlap) {
			path = v.overlapPath(overlap)
		}
		v.errorAt(path, err)
	}
}

// overlapPath returns the path of the later of the topics whose subjects overlap.
func (v *validation) overlapPath(o *streams.OverlapError) string {
	for i := len(v.routes) - 1; i >= 0; i-- {
		if v.routes[i].Pattern == nil {
			continue
		}
		if subject := v.routes[i].Template.StreamSubject(); subject == o.Subject || subject == o.OtherSubject {
			return v.subjectPath(i)
		}
	}
	return "streams"
}

// checkRegistry validates the registry's database URL.
func checkRegistry(r config.Registry) error {
	if r.Kind != config.RegistryPostgres || r.DatabaseURL.IsZero() {
		return nil
	}
	_, err := postgres.Config(r.DatabaseURL.Reveal(), "")
	return err
}
