package bridge

import (
	"bytes"
	"time"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// Rejected is a quarantined message, as its copy describes it.
type Rejected struct {
	// ID is the copy's Nats-Msg-Id, which is the message's own.
	ID string
	// Subject is the copy's subject without quarantine.<reason>. It is empty if nothing follows
	// (bad_topic).
	Subject string
	// Topic is the header Mqtt-Topic; nil if the copy has none.
	Topic []byte
	// CN is the header Bridge-Cn; nil if the copy has none.
	CN []byte
	// Reason is the token of the reason for the rejection.
	Reason  string
	Payload []byte
	// Size is the payload's size as sent by the device, in bytes. It exceeds len(Payload) if the
	// copy contains only the beginning.
	Size int
	// At is when the broker received the message or, if that is not attested, when the message was
	// quarantined.
	At       time.Time
	Retained bool
	// TraceParent is the header traceparent; nil if the copy has none.
	TraceParent []byte
}

// Restored is the result of re-validating a quarantined message.
type Restored struct {
	// Reason is Accepted, or the reason why the message stays in quarantine; Detail explains it.
	Reason verdict.Reason
	Detail string
	// Tenant and Device are those of the topic; nil if no route matches.
	Tenant, Device []byte
	// Message is the message to store; nil unless accepted. It keeps its id, so a consumer that
	// already has it recognizes it.
	Message *Message
}

// Restore re-validates a quarantined message by these rules and this payload limit (bytes), which
// may have changed since it was rejected. The rate limit does not apply. An accepted message equals
// the one that the lane would have stored, except that HeaderTime is always written: the stream's
// timestamp would be that of the replay.
func (r *Rules) Restore(m *Rejected, maxPayload int) Restored {
	v := &validator{rules: r, limits: &limit.Snapshot{Limits: limit.Limits{MaxPayload: maxPayload}}, cn: m.CN}
	rejected := func() Restored {
		return Restored{Reason: v.reason, Detail: v.detail, Tenant: v.match.Tenant(), Device: v.match.Device()}
	}
	if m.ID == "" {
		v.reject(verdict.Refused, "the copy has no message id, so a duplicate could not be recognized")
		return rejected()
	}
	if m.Topic == nil {
		v.reject(verdict.BadTopic, "the copy has neither the topic nor the payload: JetStream accepted it only without them")
		return rejected()
	}
	topic, problem := m.topic()
	if problem != "" {
		v.reject(verdict.BadTopic, "%s", problem)
		return rejected()
	}
	v.topic = topic
	v.attested.Millis, v.clock = m.At.UnixMilli(), m.At.UnixNano()
	d := &Delivery{Topic: topic, Payload: m.Payload, PayloadSize: m.Size, ReceivedAt: m.At.UnixNano(), Retain: m.Retained}
	if !v.mapTopic() {
		return rejected()
	}
	if r.Attested != nil && v.cn == nil {
		v.reject(verdict.CNMissing, "the broker attested no certificate name")
		return rejected()
	}
	if name := v.name(); r.Attested != nil && m.owned() && bytes.Equal(m.CN, appendHeaderValue(nil, cut(name, subjects.MaxSubjectBytes))) {
		v.cn = bytes.Clone(name)
	}
	if v.check(d); v.reason != verdict.Accepted {
		if v.reason == verdict.PayloadTooLarge && m.Size > len(m.Payload) {
			// Raising the limit would not help.
			v.reject(verdict.PayloadTooLarge, "only the first %d of %d bytes of the payload were kept", len(m.Payload), m.Size)
		}
		return rejected()
	}
	restored := rejected()
	restored.Message = v.restored(d, m)
	return restored
}

// owned reports whether the lane found that the CN matches the topic. Only then can the topic
// supply a CN that the header could not contain, such as one with a trailing space.
func (m *Rejected) owned() bool {
	switch m.Reason {
	case "", verdict.BadTopic.String(), verdict.NotSubscribed.String(), verdict.CNMissing.String(), verdict.CNMismatch.String():
		return false
	}
	return true
}

// topic returns the message's topic, or why the copy does not have it. The header cannot contain
// every byte. The subject can, but only if the route's template is reversible. If both agree, the
// topic is taken from the subject.
func (m *Rejected) topic() (topic []byte, problem string) {
	if exact, err := subjects.ToTopic(m.Subject); err == nil && m.Subject != "" {
		header := appendHeaderValue(nil, cut([]byte(exact), subjects.MaxSubjectBytes))
		if bytes.Equal(header, m.Topic) {
			return []byte(exact), ""
		}
	}
	switch {
	case len(m.Topic) >= subjects.MaxSubjectBytes:
		return nil, "the copy has only the beginning of the topic"
	case mayBeEscaped(m.Topic):
		// Used as is, it could be another device's.
		return nil, "the copy may not have the topic byte for byte: a header cannot contain line breaks, or white space at either end"
	}
	return m.Topic, ""
}

// mayBeEscaped reports whether a header value may contain an escape of appendHeaderValue. The
// device may have sent the same characters itself.
func mayBeEscaped(value []byte) bool {
	for _, space := range []string{"%20", "%09"} {
		if bytes.HasPrefix(value, []byte(space)) || bytes.HasSuffix(value, []byte(space)) {
			return true
		}
	}
	return bytes.Contains(value, []byte("%0D")) || bytes.Contains(value, []byte("%0A"))
}

// restored returns the message to store, built as in Lane.fillAccepted.
func (v *validator) restored(d *Delivery, m *Rejected) *Message {
	message := &Message{ID: []byte(m.ID), Subject: v.subject, Payload: d.Payload}
	if v.rules.format(v.route) == Envelope {
		message.Payload = v.envelope
	}
	header := func(name string, value []byte) {
		message.Headers = append(message.Headers, Header{name, appendHeaderValue(nil, value)})
	}
	if v.escaped {
		header(HeaderTopic, v.topic)
	}
	if m.Retained {
		header(HeaderRetained, []byte("true"))
	}
	if m.CN != nil {
		header(HeaderCN, m.CN)
	}
	if m.TraceParent != nil && len(m.TraceParent) <= maxTraceParent {
		header(HeaderTraceParent, m.TraceParent)
	}
	header(HeaderTime, new(stamp).format(m.At.UnixMilli()))
	return message
}
