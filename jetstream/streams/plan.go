package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// State is the result of comparing a stream or consumer with its spec.
type State int

const (
	// Missing means that the stream or consumer does not exist.
	Missing State = iota + 1
	// Equal means that it matches its spec.
	Equal
	// Differs means that some fields differ; see Fields.
	Differs
	// SubjectConflict means that another stream has some of its subjects; see Owners.
	SubjectConflict
)

// Field is one difference, named as in nats-server's JSON and in the nats CLI.
type Field struct {
	Name, Is, Want string
	// Fixed means that nats-server cannot change the field on an existing stream or consumer.
	Fixed bool
	// Contradicts means that messages would not be stored, or not be kept as promised. Other
	// differences are limits, which are the operator's choice.
	Contradicts bool
}

// Owner is another stream that has a wanted subject.
type Owner struct{ Subject, Stream string }

// StreamDifference compares one stream with its spec.
type StreamDifference struct {
	Spec   Spec
	State  State
	Fields []Field
	Owners []Owner

	is natsjs.StreamConfig
}

// ConsumerDifference compares one consumer with its spec.
type ConsumerDifference struct {
	Spec   ConsumerSpec
	State  State
	Fields []Field

	is natsjs.ConsumerConfig
}

// Difference compares the existing streams and consumers with the specs, in their order.
type Difference struct {
	Streams   []StreamDifference
	Consumers []ConsumerDifference
}

// Plan compares streams and consumers with their specs and changes nothing. It requires an
// established connection and the permission to send requests to $JS.API.STREAM.INFO.<stream>,
// $JS.API.CONSUMER.INFO.<stream>.<consumer> and, only if a subject is not in its own stream,
// $JS.API.STREAM.NAMES.
func Plan(ctx context.Context, js natsjs.JetStream, streams []Spec, consumers []ConsumerSpec) (*Difference, error) {
	d, err := Read(ctx, js, streams)
	if err != nil {
		return nil, err
	}
	for i := range d.Streams {
		if err := d.Streams[i].findOwners(ctx, js); err != nil {
			return nil, fmt.Errorf("look up stream %s: %w", d.Streams[i].Spec.Name, err)
		}
	}
	for _, spec := range consumers {
		c, err := planConsumer(ctx, js, spec)
		if err != nil {
			return nil, fmt.Errorf("look up consumer %s: %w", spec.key(), conn.Explain(err, conn.APISubject(js, "CONSUMER.INFO."+spec.Stream+"."+spec.Name)))
		}
		d.Consumers = append(d.Consumers, c)
	}
	return d, nil
}

// Read compares the existing streams and changes nothing. It does not look for other streams with
// their subjects. It requires an established connection and the permission to send requests to
// $JS.API.STREAM.INFO.<stream>.
func Read(ctx context.Context, js natsjs.JetStream, streams []Spec) (*Difference, error) {
	d := &Difference{}
	for _, spec := range streams {
		s, err := readStream(ctx, js, spec)
		if err != nil {
			return nil, fmt.Errorf("look up stream %s: %w", spec.Name, err)
		}
		d.Streams = append(d.Streams, s)
	}
	return d, nil
}

func readStream(ctx context.Context, js natsjs.JetStream, spec Spec) (StreamDifference, error) {
	d := StreamDifference{Spec: spec, State: Missing}
	stream, err := js.Stream(ctx, spec.Name)
	switch {
	case err == nil:
		d.is = stream.CachedInfo().Config
		d.Fields = streamFields(d.is, spec.withDefaults())
		d.State = stateOf(d.Fields)
	case !errors.Is(err, natsjs.ErrStreamNotFound):
		return d, conn.Explain(err, conn.APISubject(js, "STREAM.INFO."+spec.Name))
	}
	return d, nil
}

// stateOf returns the state of an existing stream or consumer.
func stateOf(differences []Field) State {
	if len(differences) > 0 {
		return Differs
	}
	return Equal
}

// findOwners looks for other streams that have the stream's subjects.
func (d *StreamDifference) findOwners(ctx context.Context, js natsjs.JetStream) error {
	for _, subject := range d.Spec.Subjects {
		if coveredBy(subject, d.is.Subjects) {
			continue
		}
		names := js.StreamNames(ctx, natsjs.WithStreamListSubject(subject))
		for name := range names.Name() {
			if name != d.Spec.Name {
				d.Owners = append(d.Owners, Owner{subject, name})
				d.State = SubjectConflict
			}
		}
		if err := names.Err(); err != nil {
			return fmt.Errorf("find the stream of %s: %w", subject, conn.Explain(err, conn.APISubject(js, "STREAM.NAMES")))
		}
	}
	return nil
}

// differences are the fields that differ.
type differences []Field

func (d *differences) add(differs bool, f Field) {
	if differs {
		*d = append(*d, f)
	}
}

// compare adds a field whose difference is the operator's choice.
func (d *differences) compare(name, is, want string) {
	d.add(is != want, Field{Name: name, Is: is, Want: want})
}

func streamFields(is natsjs.StreamConfig, want Spec) []Field {
	var d differences
	incomplete := slices.ContainsFunc(want.Subjects, func(s string) bool { return !coveredBy(s, is.Subjects) })
	d.add(!SameSubjects(is.Subjects, want.Subjects), Field{
		Name: "subjects", Is: formatList(is.Subjects), Want: formatList(want.Subjects), Contradicts: incomplete,
	})
	d.add(is.Storage != want.Storage, Field{
		Name: "storage", Is: strings.ToLower(is.Storage.String()), Want: strings.ToLower(want.Storage.String()),
		Fixed: true, Contradicts: true,
	})
	d.add(is.Retention != want.Retention, Field{
		Name: "retention", Is: strings.ToLower(is.Retention.String()), Want: strings.ToLower(want.Retention.String()),
		Fixed: is.Retention == natsjs.WorkQueuePolicy || want.Retention == natsjs.WorkQueuePolicy, Contradicts: true,
	})
	// The next three are never valid: such a stream does not store our messages, or does not
	// acknowledge them.
	if is.Mirror != nil {
		d = append(d, Field{Name: "mirror", Is: is.Mirror.Name, Want: "none", Fixed: true, Contradicts: true})
	}
	d.add(is.Sealed, Field{Name: "sealed", Is: "true", Want: "false", Fixed: true, Contradicts: true})
	d.add(is.NoAck, Field{Name: "no_ack", Is: "true", Want: "false", Contradicts: true})

	d.add(len(missing(want.Sources, is.Sources)) > 0, Field{
		Name: "sources", Is: formatSources(is.Sources), Want: formatSources(addSources(is.Sources, want.Sources)), Contradicts: true,
	})
	d.compare("max_age", formatAge(is.MaxAge), formatAge(want.MaxAge))
	d.compare("max_bytes", formatBytes(is.MaxBytes), formatBytes(want.MaxBytes))
	d.compare("max_msgs", formatCount(is.MaxMsgs), formatCount(want.MaxMsgs))
	d.compare("max_msgs_per_subject", formatCount(is.MaxMsgsPerSubject), formatCount(want.MaxMsgsPerSubject))
	d.compare("discard", formatDiscard(is.Discard), formatDiscard(want.Discard))
	d.compare("duplicate_window", formatDuration(is.Duplicates), formatDuration(want.DuplicateWindow))
	d.compare("num_replicas", strconv.Itoa(is.Replicas), strconv.Itoa(want.Replicas))
	return d
}

func planConsumer(ctx context.Context, js natsjs.JetStream, spec ConsumerSpec) (ConsumerDifference, error) {
	d := ConsumerDifference{Spec: spec, State: Missing}
	consumer, err := js.Consumer(ctx, spec.Stream, spec.Name)
	switch {
	case err == nil:
		d.is = consumer.CachedInfo().Config
	case errors.Is(err, natsjs.ErrNotPullConsumer):
		push, err := js.PushConsumer(ctx, spec.Stream, spec.Name)
		if err != nil {
			return d, err
		}
		d.is = push.CachedInfo().Config
	case errors.Is(err, natsjs.ErrConsumerNotFound), errors.Is(err, natsjs.ErrStreamNotFound):
		return d, nil
	default:
		return d, err
	}
	d.Fields = consumerFields(d.is, spec.withDefaults())
	d.State = stateOf(d.Fields)
	return d, nil
}

func consumerFields(is natsjs.ConsumerConfig, want ConsumerSpec) []Field {
	var d differences
	filters := is.FilterSubjects
	if is.FilterSubject != "" {
		filters = []string{is.FilterSubject}
	}
	d.add(is.DeliverSubject != "", Field{Name: "deliver_subject", Is: is.DeliverSubject, Want: "none (pull)", Fixed: true, Contradicts: true})
	d.add(is.AckPolicy != natsjs.AckExplicitPolicy, Field{
		Name: "ack_policy", Is: strings.ToLower(strings.TrimPrefix(is.AckPolicy.String(), "Ack")), Want: "explicit",
		Fixed: true, Contradicts: true,
	})
	// The policies new and last skip messages in the stream. A start by time or sequence is an
	// operator's choice, for a replay: it is reported but not refused.
	byStart := is.DeliverPolicy == natsjs.DeliverByStartTimePolicy || is.DeliverPolicy == natsjs.DeliverByStartSequencePolicy
	d.add(is.DeliverPolicy != natsjs.DeliverAllPolicy, Field{
		Name: "deliver_policy", Is: is.DeliverPolicy.String(), Want: "all", Fixed: true, Contradicts: !byStart,
	})
	// With memory storage the position is lost with the server, and with it the redelivery on a
	// stream with interest retention.
	d.add(is.MemoryStorage, Field{Name: "mem_storage", Is: "true", Want: "false", Fixed: true, Contradicts: true})
	d.add(is.HeadersOnly, Field{Name: "headers_only", Is: "true", Want: "false", Contradicts: true})
	d.add(is.InactiveThreshold > 0, Field{
		Name: "inactive_threshold", Is: formatDuration(is.InactiveThreshold), Want: "none", Contradicts: true,
	})
	d.add(is.PriorityPolicy == natsjs.PriorityPolicyPinned, Field{Name: "priority_policy", Is: "pinned_client", Want: "none", Fixed: true})
	d.add(!SameSubjects(filters, want.FilterSubjects), Field{
		Name: "filter_subjects", Is: formatList(filters), Want: formatList(want.FilterSubjects),
		Contradicts: narrower(filters, want.FilterSubjects),
	})
	d.compare("ack_wait", formatDuration(is.AckWait), formatDuration(want.AckWait))
	d.compare("max_ack_pending", formatCount(int64(is.MaxAckPending)), formatCount(int64(want.MaxAckPending)))
	d.compare("max_deliver", formatCount(int64(is.MaxDeliver)), formatCount(int64(want.MaxDeliver)))
	return d
}

// narrower reports whether the filters omit a wanted subject. No filter means the whole stream.
func narrower(filters, want []string) bool {
	if len(filters) == 0 {
		return false
	}
	if len(want) == 0 {
		want = []string{">"}
	}
	return slices.ContainsFunc(want, func(s string) bool { return !coveredBy(s, filters) })
}
