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
	d := &Difference{}
	for _, spec := range streams {
		s, err := planStream(ctx, js, spec)
		if err != nil {
			return nil, fmt.Errorf("look up stream %s: %w", spec.Name, err)
		}
		d.Streams = append(d.Streams, s)
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
		d.State = Equal
		if len(d.Fields) > 0 {
			d.State = Differs
		}
	case !errors.Is(err, natsjs.ErrStreamNotFound):
		return d, conn.Explain(err, conn.APISubject(js, "STREAM.INFO."+spec.Name))
	}
	return d, nil
}

func planStream(ctx context.Context, js natsjs.JetStream, spec Spec) (StreamDifference, error) {
	d, err := readStream(ctx, js, spec)
	if err != nil {
		return d, err
	}
	for _, subject := range spec.Subjects {
		if coveredBy(subject, d.is.Subjects) {
			continue
		}
		names := js.StreamNames(ctx, natsjs.WithStreamListSubject(subject))
		for name := range names.Name() {
			if name != spec.Name {
				d.Owners = append(d.Owners, Owner{subject, name})
				d.State = SubjectConflict
			}
		}
		if err := names.Err(); err != nil {
			return d, fmt.Errorf("find the stream of %s: %w", subject, conn.Explain(err, conn.APISubject(js, "STREAM.NAMES")))
		}
	}
	return d, nil
}

func streamFields(is natsjs.StreamConfig, want Spec) []Field {
	var fields []Field
	add := func(differs bool, f Field) {
		if differs {
			fields = append(fields, f)
		}
	}
	if !SameSubjects(is.Subjects, want.Subjects) {
		incomplete := slices.ContainsFunc(want.Subjects, func(s string) bool { return !coveredBy(s, is.Subjects) })
		fields = append(fields, Field{
			Name: "subjects", Is: formatList(is.Subjects), Want: formatList(want.Subjects), Contradicts: incomplete,
		})
	}
	add(is.Storage != want.Storage, Field{
		Name: "storage", Is: strings.ToLower(is.Storage.String()), Want: strings.ToLower(want.Storage.String()),
		Fixed: true, Contradicts: true,
	})
	add(is.Retention != want.Retention, Field{
		Name: "retention", Is: strings.ToLower(is.Retention.String()), Want: strings.ToLower(want.Retention.String()),
		Fixed: is.Retention == natsjs.WorkQueuePolicy || want.Retention == natsjs.WorkQueuePolicy, Contradicts: true,
	})
	// The next three are never valid: such a stream does not store our messages, or does not
	// acknowledge them.
	add(is.Mirror != nil, Field{Name: "mirror", Is: mirrorName(is), Want: "none", Fixed: true, Contradicts: true})
	add(is.Sealed, Field{Name: "sealed", Is: "true", Want: "false", Fixed: true, Contradicts: true})
	add(is.NoAck, Field{Name: "no_ack", Is: "true", Want: "false", Contradicts: true})

	add(len(missing(want.Sources, is.Sources)) > 0, Field{
		Name: "sources", Is: formatSources(is.Sources), Want: formatSources(addSources(is.Sources, want.Sources)), Contradicts: true,
	})
	add(is.MaxAge != want.MaxAge, Field{Name: "max_age", Is: formatAge(is.MaxAge), Want: formatAge(want.MaxAge)})
	add(is.MaxBytes != want.MaxBytes, Field{Name: "max_bytes", Is: formatBytes(is.MaxBytes), Want: formatBytes(want.MaxBytes)})
	add(is.MaxMsgs != want.MaxMsgs, Field{Name: "max_msgs", Is: formatCount(is.MaxMsgs), Want: formatCount(want.MaxMsgs)})
	add(is.MaxMsgsPerSubject != want.MaxMsgsPerSubject, Field{
		Name: "max_msgs_per_subject", Is: formatCount(is.MaxMsgsPerSubject), Want: formatCount(want.MaxMsgsPerSubject),
	})
	add(is.Discard != want.Discard, Field{Name: "discard", Is: formatDiscard(is.Discard), Want: formatDiscard(want.Discard)})
	add(is.Duplicates != want.DuplicateWindow, Field{
		Name: "duplicate_window", Is: formatDuration(is.Duplicates), Want: formatDuration(want.DuplicateWindow),
	})
	add(is.Replicas != want.Replicas, Field{Name: "num_replicas", Is: strconv.Itoa(is.Replicas), Want: strconv.Itoa(want.Replicas)})
	return fields
}

func mirrorName(is natsjs.StreamConfig) string {
	if is.Mirror == nil {
		return "none"
	}
	return is.Mirror.Name
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
	d.State = Equal
	if len(d.Fields) > 0 {
		d.State = Differs
	}
	return d, nil
}

func consumerFields(is natsjs.ConsumerConfig, want ConsumerSpec) []Field {
	var fields []Field
	add := func(differs bool, f Field) {
		if differs {
			fields = append(fields, f)
		}
	}
	filters := is.FilterSubjects
	if is.FilterSubject != "" {
		filters = []string{is.FilterSubject}
	}
	add(is.DeliverSubject != "", Field{Name: "deliver_subject", Is: is.DeliverSubject, Want: "none (pull)", Fixed: true, Contradicts: true})
	add(is.AckPolicy != natsjs.AckExplicitPolicy, Field{
		Name: "ack_policy", Is: strings.ToLower(strings.TrimPrefix(is.AckPolicy.String(), "Ack")), Want: "explicit",
		Fixed: true, Contradicts: true,
	})
	// The policies new and last skip messages in the stream. A start by time or sequence is an
	// operator's choice, for a replay: it is reported but not refused.
	byStart := is.DeliverPolicy == natsjs.DeliverByStartTimePolicy || is.DeliverPolicy == natsjs.DeliverByStartSequencePolicy
	add(is.DeliverPolicy != natsjs.DeliverAllPolicy, Field{
		Name: "deliver_policy", Is: is.DeliverPolicy.String(), Want: "all", Fixed: true, Contradicts: !byStart,
	})
	// With memory storage the position is lost with the server, and with it the redelivery on a
	// stream with interest retention.
	add(is.MemoryStorage, Field{Name: "mem_storage", Is: "true", Want: "false", Fixed: true, Contradicts: true})
	add(is.HeadersOnly, Field{Name: "headers_only", Is: "true", Want: "false", Contradicts: true})
	add(is.InactiveThreshold > 0, Field{
		Name: "inactive_threshold", Is: formatDuration(is.InactiveThreshold), Want: "none", Contradicts: true,
	})
	add(is.PriorityPolicy == natsjs.PriorityPolicyPinned, Field{Name: "priority_policy", Is: "pinned_client", Want: "none", Fixed: true})
	add(!SameSubjects(filters, want.FilterSubjects), Field{
		Name: "filter_subjects", Is: formatList(filters), Want: formatList(want.FilterSubjects),
		Contradicts: narrower(filters, want.FilterSubjects),
	})
	add(is.AckWait != want.AckWait, Field{Name: "ack_wait", Is: formatDuration(is.AckWait), Want: formatDuration(want.AckWait)})
	add(is.MaxAckPending != want.MaxAckPending, Field{
		Name: "max_ack_pending", Is: formatCount(int64(is.MaxAckPending)), Want: formatCount(int64(want.MaxAckPending)),
	})
	add(is.MaxDeliver != want.MaxDeliver, Field{
		Name: "max_deliver", Is: formatCount(int64(is.MaxDeliver)), Want: formatCount(int64(want.MaxDeliver)),
	})
	return fields
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
