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

// The attributes follow OpenTelemetry's semantic conventions for messaging, as far as these define them.

// Stored records the span of a message in the bridge, from the MQTT socket to JetStream's PubAck. It is
// for [bridge.Tracing].
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

// Processed describes a message that a consumer has processed.
type Processed struct {
	TraceParent               string // the header traceparent
	Stream, Consumer, Subject string
	MessageID                 string
	Table                     string // the table of its row
	Size                      int    // payload size in bytes
	Begun, Ended              time.Time
	Err                       error  // why it was not stored; nil: it was stored
	ErrType                   string // the type of Err in one word
	context                   trace.SpanContext
}

// Process records the span of a processed message as a child of its publisher's span. It ignores
// messages that the publisher has not sampled.
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

// text returns a string attribute with valid UTF-8. The value comes from devices, and invalid UTF-8 would
// fail the whole batch.
func text(key, value string) attribute.KeyValue { return attribute.String(key, valid(value)) }

func valid(s string) string { return strings.ToValidUTF8(s, "?") }
