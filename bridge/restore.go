package bridge

import (
	"bytes"
	"time"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// Rejected is a message in quarantine, as its copy describes it.
type Rejected struct {
	// ID is the copy's Nats-Msg-Id: the message's own.
	ID string
	// Subject is the copy's subject without quarantine.<reason>.; empty if there is
	// nothing more (bad_topic).
	Subject string
	// Topic is the header Mqtt-Topic; nil: the copy has none.
	Topic []byte
	// CN is the header Bridge-Cn; nil: the copy has none.
	CN []byte
	// Reason is why it was rejected, the token.
	Reason  string
	Payload []byte
	// Size is that of the payload as the device sent it, in bytes; more than
	// len(Payload) where the copy contains only its beginning.
	Size int
	// At is when the broker received the message or, if that is not attested, when it
	// was quarantined.
	At       time.Time
	Retained bool
	// TraceParent is the header traceparent; nil: the copy has none.
	TraceParent []byte
}

// Restored is the result of validating a message in quarantine again.
type Restored struct {
	// Reason is Accepted, or why it remains in quarantine, with the Detail.
	Reason verdict.Reason
	Detail string
	// Tenant and Device are the topic's; nil if it matches no route.
	Tenant, Device []byte
	// Message is the message to store; nil unless accepted. It keeps its id, so that a
	// consumer that has it already recognizes it.
	Message *Message
}

// Restore re-validates a message in quarantine by these rules and this maximum length of a
// payload (bytes), which may differ from those when it was rejected; the rate does not apply.
// An accepted message is the one that the lane would have stored, except that HeaderTime is
// always written: the stream's timestamp would be the time of the replay.
func (r *Rules) Restore(m *Rejected, maxPayload int) Restored {
	j := &validator{rules: r, limits: &limit.Snapshot{Limits: limit.Limits{MaxPayload: maxPayload}}, cn: m.CN}
	stay := func() Restored {
		return Restored{Reason: j.reason, Detail: j.detail, Tenant: j.match.Tenant(), Device: j.match.Device()}
	}
	if m.ID == "" {
		j.reject(verdict.Refused, "the copy has no message id, by which it could be told whether it is stored already")
		return stay()
	}
	if m.Topic == nil {
		j.reject(verdict.BadTopic, "the copy has neither the topic nor the payload: JetStream took it only without")
		return stay()
	}
	topic, lacks := m.topic()
	if lacks != "" {
		j.reject(verdict.BadTopic, "%s", lacks)
		return stay()
	}
	j.topic = topic
	j.attested.Millis, j.clock = m.At.UnixMilli(), m.At.UnixNano()
	d := &Delivery{Topic: topic, Payload: m.Payload, PayloadSize: m.Size, ReceivedAt: m.At.UnixNano(), Retain: m.Retained}
	if !j.locate() {
		return stay()
	}
	if r.Attested != nil && j.cn == nil {
		j.reject(verdict.CNMissing, "the broker attested no certificate name")
		return stay()
	}
	if name := j.name(); r.Attested != nil && m.owned() && bytes.Equal(m.CN, appendHeaderValue(nil, cut(name, subjects.MaxSubjectBytes))) {
		j.cn = bytes.Clone(name)
	}
	if j.check(d); j.reason != verdict.Accepted {
		if j.reason == verdict.PayloadTooLarge && m.Size > len(m.Payload) {
			// No limit would help.
			j.reject(verdict.PayloadTooLarge, "only the first %d of %d bytes of the payload were kept", len(m.Payload), m.Size)
		}
		return stay()
	}
	restored := stay()
	restored.Message = j.restored(d, m)
	return restored
}

// owned reports whether the lane has found the CN to be the topic's. Only then can a CN that
// the header could not contain, with a space at its end, be taken from the topic.
func (m *Rejected) owned() bool {
	switch m.Reason {
	case "", verdict.BadTopic.String(), verdict.NotSubscribed.String(), verdict.CNMissing.String(), verdict.CNMismatch.String():
		return false
	}
	return true
}

// topic returns the message's topic, or why the copy does not have it. The header cannot
// contain every byte. The subject can, but only if the route's template is reversible: if
// both agree, the topic is the subject's.
func (m *Rejected) topic() (topic []byte, lacks string) {
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
		// Used as it is it could be another device's.
		return nil, "the copy may not have the topic byte for byte: a header carries no line end, and no space at either end"
	}
	return m.Topic, ""
}

// mayBeEscaped reports whether a header's value contains an escape of appendHeaderValue. The
// device may have written the same characters itself.
func mayBeEscaped(value []byte) bool {
	for _, blank := range []string{"%20", "%09"} {
		if bytes.HasPrefix(value, []byte(blank)) || bytes.HasSuffix(value, []byte(blank)) {
			return true
		}
	}
	return bytes.Contains(value, []byte("%0D")) || bytes.Contains(value, []byte("%0A"))
}

// restored returns the message to store, as Lane.accepted builds it.
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
