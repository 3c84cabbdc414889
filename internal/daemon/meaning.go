package daemon

import (
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/streams"
	"mqtt-nats-bridge/subjects"
)

// Check finds everything that only the parsers of patterns, templates and stream
// subjects can, each fault at its place. It is made for [config.Sources]: c may
// have faults of other kinds.
func Check(c *config.Config) []config.Fault { return meaningOf(c).faults }

// meaning is what patterns, templates and streams say, as far as they do.
type meaning struct {
	config *config.Config
	faults []config.Fault
	prefix *subjects.Prefix // nil with plain topics
	// routes has one for each topic; without a Pattern where that is at fault.
	routes    []subjects.Route
	streams   []streams.Spec
	consumers []streams.ConsumerSpec
}

func meaningOf(c *config.Config) *meaning {
	m := &meaning{config: c, routes: make([]subjects.Route, len(c.Topics))}
	if c.Identity.Mode == config.Attested {
		prefix, err := subjects.ParsePrefix(c.Identity.Prefix)
		if err != nil {
			m.fault("identity.prefix", err)
		}
		m.prefix = prefix
	}
	if err := checkRegistry(c.Identity.Registry); err != nil {
		path := "identity.registry.database_url"
		if c.Identity.Registry.DatabaseURLFile != "" {
			path += "_file"
		}
		m.fault(path, err)
	}
	for i := range c.Topics {
		m.readTopic(i)
		m.compareTopic(i)
	}
	m.streams, m.consumers = streamPlans(c, m.routes)
	m.checkStreams()
	return m
}

func (m *meaning) fault(path string, err error) {
	m.faults = append(m.faults, m.config.Fault(path, err.Error()))
}

// subjectPath is what gives a topic its subjects.
func (m *meaning) subjectPath(i int) string {
	if m.config.Topics[i].Subject != "" {
		return fmt.Sprintf("topics[%d].subject", i)
	}
	return fmt.Sprintf("topics[%d].topic", i)
}

var errQuarantine = errors.New("its subjects would begin with quarantine, where rejected messages go; give it another subject")

// readTopic fills in a route, or notes what keeps it from being one.
func (m *meaning) readTopic(i int) {
	t := m.config.Topics[i]
	pattern, err := subjects.ParsePattern(t.Topic)
	if err == nil {
		pattern, err = pattern.WithDevice(t.Tenant, t.Device)
	}
	if err == nil {
		err = pattern.RequireDevice()
	}
	if err != nil {
		m.fault(fmt.Sprintf("topics[%d].topic", i), err)
		return
	}
	template := pattern.Template()
	if t.Subject != "" {
		template, err = subjects.ParseTemplate(t.Subject, pattern)
	}
	if err == nil {
		// No capture shortens a subject: if this one is unfit, all are.
		if err = subjects.CheckSubject([]byte(template.StreamSubject())); err != nil {
			err = fmt.Errorf("no message of it could be published: %w", err)
		}
	}
	if err == nil && strings.HasPrefix(template.StreamSubject()+".", bridge.QuarantineSubject+".") {
		err = errQuarantine
	}
	if err != nil {
		m.fault(m.subjectPath(i), err)
		return
	}
	m.routes[i] = subjects.Route{Pattern: pattern, Template: template}
}

// compareTopic drops a topic that takes topics of an earlier one.
func (m *meaning) compareTopic(i int) {
	if m.routes[i].Pattern == nil {
		return
	}
	for j, earlier := range m.routes[:i] {
		if earlier.Pattern == nil {
			continue
		}
		if example, ok := subjects.Overlap(earlier.Pattern, m.routes[i].Pattern); ok {
			m.fault(fmt.Sprintf("topics[%d].topic", i),
				fmt.Errorf("%q overlaps with %q of topics[%d]: both take %q; change one of the two", m.routes[i].Pattern, earlier.Pattern, j, example))
			m.routes[i] = subjects.Route{}
			return
		}
	}
}

// checkStreams also finds topics that differ and whose subjects do not.
func (m *meaning) checkStreams() {
	err := streams.ValidateSpecs(m.streams, m.consumers)
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
			path = m.overlapPath(overlap)
		}
		m.fault(path, err)
	}
}

// overlapPath is the later of the topics whose subjects overlap.
func (m *meaning) overlapPath(o *streams.OverlapError) string {
	for i := len(m.routes) - 1; i >= 0; i-- {
		if m.routes[i].Pattern == nil {
			continue
		}
		if subject := m.routes[i].Template.StreamSubject(); subject == o.Subject || subject == o.OtherSubject {
			return m.subjectPath(i)
		}
	}
	return "streams"
}
