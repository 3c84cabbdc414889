package tracing

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// The attributes are those of OpenTelemetry's semantic conventions for messaging, where there
// is one.

// Stored records the span of a message in the bridge: from the MQTT socket to JetStream's
// answer. It is for [bridge.Tracing].
func (e *Exporter) Stored(s *bridge.Span) { e.enqueue((*stored)(s)) }

type stored bridge.Span

func (s *stored) span() *Span {
	out := &Span{
		Name: "send", Kind: trace.SpanKindProducer, Trace: s.TraceID, ID: s.SpanID, Start: s.Received, End: s.Settled,
		Attributes: []attribute.KeyValue{
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.operation.type", "send"),
			text("messaging.destination.name", s.Subject),
			text("messaging.client.id", s.Lane),
			text("messaging.message.id", s.MessageID),
			attribute.Int("messaging.message.body.size", s.Size),
		},
	}
	if s.Pattern != "" {
		out.Name += " " + s.Pattern
	}
	if s.Duplicate {
		out.Attributes = append(out.Attributes, attribute.Bool("mqttbridge.duplicate", true))
	}
	if s.Reason != verdict.Accepted {
		out.Err = s.Reason.String() + ": " + s.Detail
		out.Attributes = append(out.Attributes, attribute.String("error.type", s.Reason.String()))
	}
	return out
}

// Processed is a message that a consumer has worked on.
type Processed struct {
	TraceParent               string // the header
	Stream, Consumer, Subject string
	MessageID                 string
	Table                     string // where it was to be stored
	Size                      int    // of the payload, bytes
	Begun, Ended              time.Time
	Err                       error  // why it was not stored; nil: it was
	ErrType                   string // a word for it
	context                   trace.SpanContext
}

// Process records the span of a message that its publisher has sampled, as a child of the
// publisher's; of another one nothing.
func (e *Exporter) Process(p *Processed) {
	if p.TraceParent == "" || strings.HasSuffix(p.TraceParent, "-00") {
		return
	}
	carrier := propagation.MapCarrier{bridge.HeaderTraceParent: p.TraceParent}
	p.context = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if p.context.IsSampled() {
		e.enqueue(p)
	}
}

func (p *Processed) span() *Span {
	out := &Span{
		Name: "process " + p.Stream, Kind: trace.SpanKindConsumer, Trace: p.context.TraceID(), Parent: p.context.SpanID(),
		Start: p.Begun.UnixNano(), End: p.Ended.UnixNano(),
		Attributes: []attribute.KeyValue{
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			text("messaging.destination.name", p.Subject),
			text("messaging.consumer.group.name", p.Consumer),
			text("messaging.message.id", p.MessageID),
			attribute.Int("messaging.message.body.size", p.Size),
			text("db.collection.name", p.Table),
		},
	}
	if p.Err != nil {
		out.Err = p.Err.Error()
		out.Attributes = append(out.Attributes, attribute.String("error.type", p.ErrType))
	}
	return out
}

// text is an attribute of bytes that others chose: one that is not UTF-8 would fail the whole batch.
func text(key, value string) attribute.KeyValue { return attribute.String(key, valid(value)) }

func valid(s string) string { return strings.ToValidUTF8(s, "?") }
