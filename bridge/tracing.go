package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"mqtt-nats-bridge/bridge/verdict"
)

// HeaderTraceParent contains a message's trace context: W3C Trace Context, version 00. It is lower
// case as in the specification, because NATS header names are case-sensitive.
const HeaderTraceParent = "traceparent"

// maxTraceParent bounds the header that a replay copies, in bytes. Version 00 has 55.
const maxTraceParent = 128

// Tracing adds a trace context to every stored message.
type Tracing struct {
	// Ratio is the fraction of messages that are sampled, 0 to 1.
	Ratio float64
	// Record gets the span of each sampled message once it is settled; nil: no spans. It is called
	// under the lane's lock and must not block.
	Record func(*Span)
}

// Span covers a sampled message from the MQTT socket to JetStream's answer.
type Span struct {
	TraceContext
	Lane      string // client id
	MessageID string
	Subject   string
	Pattern   string // of the topic; empty: no route matches
	Size      int    // of the payload as the device sent it, bytes
	Received  int64  // ns since the epoch, as is Settled
	Settled   int64
	// Duplicate means that JetStream already had the message: another span with this id may exist.
	Duplicate bool
	// Reason is Accepted, or the reason why the message is quarantined; Detail explains it.
	Reason verdict.Reason
	Detail string
}

// TraceContext is the trace id and span id derived from a message id.
type TraceContext struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// NewTraceContext derives the trace context from the message id alone: SHA-256 of the id, bytes 0
// to 15 and 16 to 23. A redelivery therefore has the same context, in this process and in the next.
func NewTraceContext(messageID []byte) (c TraceContext) {
	sum := sha256.Sum256(messageID)
	copy(c.TraceID[:], sum[:16])
	copy(c.SpanID[:], sum[16:24])
	return c
}

// Sampled reports whether the trace is within the ratio, 0 to 1. It follows the rule of
// OpenTelemetry's TraceIDRatioBased, so other services make the same decision.
func (c *TraceContext) Sampled(ratio float64) bool {
	return binary.BigEndian.Uint64(c.TraceID[8:])>>1 < uint64(ratio*(1<<63))
}

// append appends the value of traceparent.
func (c *TraceContext) append(dst []byte, sampled bool) []byte {
	dst = append(dst, "00-"...)
	dst = hex.AppendEncode(dst, c.TraceID[:])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, c.SpanID[:])
	if sampled {
		return append(dst, "-01"...)
	}
	return append(dst, "-00"...)
}

// trace adds the trace context to the message that is about to be published.
func (l *Lane) trace(d *Delivery, token uint64) {
	c, from := NewTraceContext(l.message.ID), len(l.values)
	sampled := c.Sampled(l.opts.Tracing.Ratio)
	l.values = c.append(l.values, sampled)
	l.message.Headers = append(l.message.Headers, Header{HeaderTraceParent, l.values[from:len(l.values):len(l.values)]})
	if !sampled || l.opts.Tracing.Record == nil {
		return
	}
	v := l.validator
	span := &Span{
		TraceContext: c, Lane: l.opts.Name, MessageID: string(l.message.ID), Subject: string(l.message.Subject),
		Size: d.PayloadSize, Received: d.ReceivedAt, Detail: v.detail,
	}
	if v.route >= 0 {
		span.Pattern = l.opts.Rules.Topics.Route(v.route).Pattern.String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring.get(token).traced = true
	l.spans[token] = span
}

// endSpan reports the span of a settled message.
func (l *Lane) endSpan(s *slot, token uint64, at int64, duplicate bool) {
	span := l.spans[token]
	delete(l.spans, token)
	s.traced = false
	span.Settled, span.Duplicate, span.Reason = at, duplicate, s.reason
	l.opts.Tracing.Record(span)
}
