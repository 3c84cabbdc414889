package tracing

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// The attributes follow OpenTelemetry's semantic conventions for messaging, as far as these define them.

// flags says that a span is sampled and that the origin of its parent is known.
const flags = uint32(trace.FlagsSampled) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)

// Stored records the span of a message in the bridge, from the MQTT socket to JetStream's PubAck. It is
// for [bridge.Tracing].
func (e *Exporter) Stored(s *bridge.Span) { e.enqueue((*stored)(s)) }

type stored bridge.Span

func (s *stored) span() *tracepb.Span {
	out := &tracepb.Span{
		Name: "send", Kind: tracepb.Span_SPAN_KIND_PRODUCER, TraceId: s.TraceID[:], SpanId: s.SpanID[:], Flags: flags,
		StartTimeUnixNano: uint64(s.Received), EndTimeUnixNano: uint64(max(s.Received, s.Settled)),
		Attributes: append(messaging("send", s.Subject, s.MessageID, s.Size), text("messaging.client.id", s.Lane)),
		Status:     &tracepb.Status{},
	}
	if s.Pattern != "" {
		out.Name += " " + s.Pattern
	}
	if s.Duplicate {
		out.Attributes = append(out.Attributes, &commonpb.KeyValue{
			Key: "mqttbridge.duplicate", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}},
		})
	}
	if s.Reason != verdict.Accepted {
		fail(out, s.Reason.String()+": "+s.Detail, s.Reason.String())
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

func (p *Processed) span() *tracepb.Span {
	traceID, parent := p.context.TraceID(), p.context.SpanID()
	out := &tracepb.Span{
		Name: "process " + p.Stream, Kind: tracepb.Span_SPAN_KIND_CONSUMER, TraceId: traceID[:], ParentSpanId: parent[:],
		SpanId:            binary.BigEndian.AppendUint64(nil, rand.Uint64()|1), // 0 would be invalid
		Flags:             flags | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK),
		StartTimeUnixNano: uint64(p.Begun.UnixNano()), EndTimeUnixNano: uint64(max(p.Begun.UnixNano(), p.Ended.UnixNano())),
		Attributes: append(messaging("process", p.Subject, p.MessageID, p.Size),
			text("messaging.consumer.group.name", p.Consumer), text("db.collection.name", p.Table)),
		Status: &tracepb.Status{},
	}
	if p.Err != nil {
		fail(out, p.Err.Error(), p.ErrType)
	}
	return out
}

// messaging returns the attributes of every span.
func messaging(operation, subject, id string, size int) []*commonpb.KeyValue {
	return []*commonpb.KeyValue{
		text("messaging.system", "nats"),
		text("messaging.operation.name", operation),
		text("messaging.operation.type", operation),
		text("messaging.destination.name", subject),
		text("messaging.message.id", id),
		{Key: "messaging.message.body.size", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(size)}}},
	}
}

// fail marks a span as failed. kind is the type of the error in one word.
func fail(s *tracepb.Span, reason, kind string) {
	s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: valid(reason)}
	s.Attributes = append(s.Attributes, text("error.type", kind))
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: valid(value)}}}
}

// valid returns a text with valid UTF-8. It comes from devices, and invalid UTF-8 would fail the whole batch.
func valid(s string) string { return strings.ToValidUTF8(s, "?") }
