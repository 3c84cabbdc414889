// Package plan compiles a configuration into what the bridge does: the rules and the lanes,
// the streams and their consumers, and the ends to connect to. The daemon carries it out;
// check, map and the other commands read it.
package plan

import (
	"slices"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/streams"
	"mqtt-nats-bridge/subjects"
)

// Plan is what a configuration means: the rules of all lanes, the lanes, the
// streams.
type Plan struct {
	Rules     *bridge.Rules
	Limits    limit.Limits
	Lanes     []Lane
	Streams   []streams.Spec
	Consumers []streams.ConsumerSpec
	// Local reports that the lanes store in the leaf node's streams of the same names.
	Local bool
}

// StreamOf is the stream of the plan that stores a subject, empty where none does.
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

// Lane is one MQTT session to be.
type Lane struct {
	ClientID string
	Filters  []string
	// Former are filters that other configurations and versions subscribe to for
	// this client id.
	Former []string
	// Retiring reports that it takes nothing new and stores the messages that the broker has queued for it.
	Retiring bool
}

// Compile turns a configuration into a plan. The error is a *config.Errors: what
// [Validate] finds.
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

// Limits are the settings that a reload may change.
func Limits(c *config.Config) limit.Limits {
	return limit.Limits{
		MaxPayload: int(c.Limits.Payload),
		Subjects:   c.Limits.Subjects,
		Device:     Rate(c.Limits.Device),
		Tenant:     Rate(c.Limits.Tenant),
		Quarantine: Rate(c.Quarantine.PerDevice),
	}
}

func Rate(l config.RateLimit) limit.Rate {
	return limit.Rate{Rate: float64(l.Rate), Burst: l.Effective()}
}

// lanePlans gives each lane its client id and its filters. Two lanes never get
// the same device: their partitions differ, or the broker shares the topics out
// by client id ($share).
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

// attestedLane takes a whole partition: what matches no topic pattern is then in
// quarantine, and not nowhere. It is the only member of a share group that is named
// after its client id. EMQX hands what is published during a session takeover to the
// member of a group more surely than to a plain subscriber (DESIGN.md, Subscriptions).
func attestedLane(c *config.Config, prefix *subjects.Prefix, set *subjects.Set, id, partition string) Lane {
	whole := prefix.Partition(partition)
	share := "$share/" + id + "/" + whole
	lane := Lane{ClientID: id, Filters: []string{share}, Former: []string{whole}}
	if c.MQTT.Share == config.ShareOff {
		lane.Filters, lane.Former = []string{whole}, []string{share}
	}
	for r := range set.Len() { // what versions before the share group subscribed to
		lane.Former = append(lane.Former, prefix.Filter(partition, set.Route(r).Pattern))
	}
	return lane
}

// streamPlans declares the streams that the routes' subjects go to, and the
// consumers that ingest expects. A route without a pattern is passed over.
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
