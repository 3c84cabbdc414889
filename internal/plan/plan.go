// Package plan compiles a configuration into a plan: the rules, the lanes, the streams and their
// consumers, and the peers to connect to. The daemon executes the plan; check, map and other commands
// read it.
package plan

import (
	"slices"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/streams"
	"mqtt-nats-bridge/subjects"
)

// Plan is a compiled configuration: the rules and limits, the lanes, the streams and their consumers.
type Plan struct {
	Rules     *bridge.Rules
	Limits    limit.Limits
	Lanes     []Lane
	Streams   []streams.Spec
	Consumers []streams.ConsumerSpec
	// Local means that the lanes store in the leaf node's streams of the same names.
	Local bool
}

// StreamOf returns the name of the stream that stores a subject, or "" if no stream does.
func (p *Plan) StreamOf(subject string) string {
	for _, s := range p.Streams {
		for _, filter := range s.Subjects {
			if streams.Covers(filter, subject) {
				return s.Name
			}
		}
	}
	return ""
}

// Lane describes one MQTT session.
type Lane struct {
	ClientID string
	Filters  []string
	// Former contains filters that other configurations or older versions subscribed to with this
	// client id.
	Former []string
	// Retiring means that the lane receives no new messages and only drains its queue at the broker.
	Retiring bool
}

// Compile compiles a configuration. The error is a *config.Errors with the errors of [Validate].
func Compile(c *config.Config) (*Plan, error) {
	v := validate(c)
	if err := (&config.Errors{List: v.errs}).Err(); err != nil {
		return nil, err
	}
	set, err := subjects.NewSet(v.routes)
	if err != nil {
		errs := &config.Errors{}
		errs.Add(c.ErrorAt("topics", err.Error()))
		return nil, errs
	}
	formats := make([]bridge.Format, len(c.Topics))
	for i, t := range c.Topics {
		if t.Format == config.Envelope {
			formats[i] = bridge.Envelope
		}
	}
	return &Plan{
		Rules: &bridge.Rules{
			Topics: set, Formats: formats, Attested: v.prefix,
			ForwardRetained: c.Retained == config.RetainedForward,
			Quarantine:      c.Quarantine.Store,
		},
		Limits:  Limits(c),
		Lanes:   lanePlans(c, v.prefix, set),
		Streams: v.streams, Consumers: v.consumers, Local: c.NATS.Mode == config.LeafMode,
	}, nil
}

// Limits returns the configured limits, which a reload may change.
func Limits(c *config.Config) limit.Limits {
	return limit.Limits{
		MaxPayload: int(c.Limits.Payload),
		Subjects:   c.Limits.Subjects,
		Device:     Rate(c.Limits.Device),
		Tenant:     Rate(c.Limits.Tenant),
		Quarantine: Rate(c.Quarantine.PerDevice),
	}
}

// Rate returns a configured rate limit with its effective burst.
func Rate(l config.RateLimit) limit.Rate {
	return limit.Rate{Rate: float64(l.Rate), Burst: l.Effective()}
}

// lanePlans returns the lanes with their client ids and filters. Two lanes never receive messages of the
// same device: their partitions differ, or the broker distributes the messages by client id ($share).
func lanePlans(c *config.Config, prefix *subjects.Prefix, set *subjects.Set) []Lane {
	var plans []Lane
	for i, id := range c.ClientIDs() {
		if prefix != nil {
			plans = append(plans, attestedLane(c, prefix, set, id, c.Lanes.Partitions.List[i]))
			continue
		}
		lane := Lane{ClientID: id, Retiring: i >= c.Lanes.Count}
		for _, filter := range set.Filters() {
			if c.MQTT.Share != "" {
				lane.Former = append(lane.Former, filter)
				filter = "$share/" + c.MQTT.Share + "/" + filter
			}
			lane.Filters = append(lane.Filters, filter)
		}
		plans = append(plans, lane)
	}
	return plans
}

// attestedLane returns a lane that subscribes to a whole partition, so that messages that match no topic
// pattern go to quarantine instead of being lost. The lane is the only member of a share group named
// after its client id: during a session takeover, EMQX delivers messages more reliably to a member of a
// share group than to a plain subscriber (DESIGN.md, Subscriptions).
func attestedLane(c *config.Config, prefix *subjects.Prefix, set *subjects.Set, id, partition string) Lane {
	whole := prefix.Partition(partition)
	share := "$share/" + id + "/" + whole
	lane := Lane{ClientID: id, Filters: []string{share}, Former: []string{whole}}
	if c.MQTT.Share == config.ShareOff {
		lane.Filters, lane.Former = []string{whole}, []string{share}
	}
	for r := range set.Len() { // the filters of versions without the share group
		lane.Former = append(lane.Former, prefix.Filter(partition, set.Route(r).Pattern))
	}
	return lane
}

// streamPlans returns the streams for the routes' subjects and the consumers that ingest expects. It
// ignores routes without a pattern.
func streamPlans(c *config.Config, routes []subjects.Route) ([]streams.Spec, []streams.ConsumerSpec) {
	var specs []streams.Spec
	var consumers []streams.ConsumerSpec
	sections := []struct {
		stream   config.TopicStream
		spec     config.Stream
		consumer string
	}{
		{config.Telemetry, c.Streams.Telemetry, "ingest-workers"},
		{config.Shadow, c.Streams.Shadow, "ingest-shadow"},
		{config.Commands, c.Streams.Commands, "ingest-commands"},
	}
	for _, s := range sections {
		var subjects []string
		for i, t := range c.Topics {
			if t.Stream != s.stream || routes[i].Pattern == nil {
				continue
			}
			if subject := routes[i].Template.StreamSubject(); !slices.Contains(subjects, subject) {
				subjects = append(subjects, subject)
			}
		}
		if len(subjects) == 0 {
			continue
		}
		specs = append(specs, streamSpec(c, s.spec, subjects, "from MQTT by mqtt-nats-bridge"))
		consumers = append(consumers, streams.ConsumerSpec{
			Stream: s.spec.Name, Name: s.consumer,
			AckWait: streams.DefaultAckWait, MaxAckPending: streams.DefaultMaxAckPending,
		})
	}
	if c.Quarantine.Store {
		specs = append(specs, streamSpec(c, c.Streams.Quarantine,
			[]string{bridge.QuarantineSubject + ".>"}, "messages mqtt-nats-bridge refused, with the reason"))
	}
	return specs, consumers
}

func streamSpec(c *config.Config, s config.Stream, subjects []string, description string) streams.Spec {
	var sources []streams.SourceSpec
	if c.NATS.Mode == config.LeafMode {
		sources = []streams.SourceSpec{{Stream: s.Name, Domain: c.NATS.Leaf.Domain}}
	}
	return streams.Spec{
		Name: s.Name, Sources: sources, Description: description, Subjects: subjects,
		MaxAge: s.MaxAge, MaxBytes: int64(s.MaxBytes), MaxMsgsPerSubject: int64(s.MaxPerSubject),
		DuplicateWindow: c.Streams.DuplicateWindow, Replicas: c.Streams.Replicas,
	}
}
