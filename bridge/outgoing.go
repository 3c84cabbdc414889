package bridge

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"mqtt-nats-bridge/subjects"
)

// Headers that a stored message may carry besides Nats-Msg-Id. Every header
// costs bytes on every message, so each is there only where it says something.
const (
	// HeaderTopic has the device's topic, where the subject is not simply
	// the topic with dots. CR, LF and blanks at either end, which a header
	// cannot carry, are percent-encoded; the subject itself is lossless.
	HeaderTopic    = "Mqtt-Topic"
	HeaderRetained = "Mqtt-Retained"
	// HeaderCN has the certificate's CN as the broker attested it.
	HeaderCN = "Bridge-Cn"
	// HeaderTime is when the broker received the publish: RFC 3339 with
	// milliseconds, UTC.
	HeaderTime = "Bridge-Time"
	// HeaderReason and HeaderDetail stand on quarantined messages: the reason's
	// token and one sentence.
	HeaderReason = "Bridge-Reason"
	HeaderDetail = "Bridge-Detail"
	// HeaderSize stands on a quarantined message that does not have the whole
	// payload: how many bytes the device sent.
	HeaderSize = "Bridge-Size"
)

// QuarantineSubject is the first token of quarantined messages' subjects.
const QuarantineSubject = "quarantine"

// accepted makes l.message the message to store.
func (l *Lane) accepted(d *Delivery, number uint64) {
	m, j := &l.message, l.judge
	l.begin(d, number)
	m.Subject, m.Payload = j.subject, d.Payload
	if l.opts.Rules.format(j.route) == Envelope {
		m.Payload = j.envelope
	}
	if j.escaped {
		l.header(HeaderTopic, j.topic)
	}
	l.provenance(d)
}

// quarantined makes l.message the quarantine copy.
func (l *Lane) quarantined(d *Delivery, number uint64) {
	m, j := &l.message, l.judge
	l.begin(d, number)
	l.subject = append(l.subject[:0], QuarantineSubject+"."...)
	l.subject = append(l.subject, j.reason.String()...)
	if j.subject != nil {
		l.subject = append(l.subject, '.')
		l.subject = append(l.subject, j.subject...)
	}
	m.Subject = l.subject
	detail := j.detail
	m.Payload = d.Payload
	if limit := j.limits.MaxPayload; len(m.Payload) > limit {
		m.Payload = m.Payload[:limit]
	}
	whole := len(m.Payload) == d.PayloadSize
	if !whole {
		detail += fmt.Sprintf("; its first %d bytes are kept", len(m.Payload))
	}
	l.header(HeaderReason, []byte(j.reason.String()))
	l.header(HeaderDetail, []byte(detail))
	l.header(HeaderTopic, cut(j.topic, subjects.MaxSubjectBytes))
	if !whole {
		l.header(HeaderSize, strconv.AppendInt(nil, int64(d.PayloadSize), 10))
	}
	l.provenance(d)
}

// cut shortens what would make a header too long to be stored.
func cut(b []byte, limit int) []byte {
	if len(b) > limit {
		return b[:limit]
	}
	return b
}

func (l *Lane) begin(d *Delivery, number uint64) {
	l.idBuf = l.appendID(l.idBuf[:0], d, number)
	l.values = l.values[:0]
	l.message.ID = l.idBuf
	l.message.FirstAttempt = 0
	if d.Dup && l.judge.attested.ID != nil { // an earlier process may have sent it
		l.message.FirstAttempt = l.judge.attested.Millis * int64(time.Millisecond)
	}
	l.message.Headers = l.headers[:0]
}

// provenance adds what is known of the message's way.
func (l *Lane) provenance(d *Delivery) {
	if d.Retain {
		l.header(HeaderRetained, []byte("true"))
	}
	if l.judge.cn != nil {
		l.header(HeaderCN, cut(l.judge.cn, subjects.MaxSubjectBytes))
	}
	if l.opts.Rules.Attested != nil && l.judge.attested.ID != nil {
		l.message.Headers = append(l.message.Headers, Header{HeaderTime, l.stamp.format(l.judge.attested.Millis)})
	}
}

// header adds a header line whose value may hold any bytes.
func (l *Lane) header(name string, value []byte) {
	from := len(l.values)
	l.values = appendHeaderValue(l.values, value)
	l.message.Headers = append(l.message.Headers, Header{name, l.values[from:len(l.values):len(l.values)]})
}

// appendHeaderValue appends value fit for a header line: CR and LF would end it,
// and NATS clients trim blanks at either end, so these are percent-encoded.
func appendHeaderValue(dst, value []byte) []byte {
	const hex = "0123456789ABCDEF"
	last := len(value) - 1
	for i, c := range value {
		if c == '\r' || c == '\n' || (c == ' ' || c == '\t') && (i == 0 || i == last) {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// refused turns a message that JetStream will never take into its quarantine
// copy, which takes over the slot. Should that be refused too, it goes without
// payload and with the two headers of every rejection alone, the smallest copy
// there is, and the publisher keeps that one until it is taken: nothing is
// acknowledged that is stored nowhere.
func (l *Lane) refused(s *slot, r *Result) {
	m := *r.Message
	if s.reason == Accepted {
		l.counts.Rejected[Refused]++
		bound := l.opts.Limits.current.Load().quarantine.meter
		store := l.opts.Devices.reject(s.sender, Refused, bound, l.opts.Now()) && l.opts.Rules.Quarantine
		s.reason = Refused
		if s.wrapped {
			m.Payload = unwrap(m.Payload)
		}
		if !store {
			l.counts.QuarantineSkipped++
			l.finish(s)
			l.advance()
			return
		}
		subject := []byte(QuarantineSubject + "." + Refused.String() + ".")
		topic, _ := subjects.ToTopic(string(m.Subject)) // "" where the route's template is not reversible
		m.Subject = append(subject, m.Subject...)
		m.Headers = append([]Header{
			{HeaderReason, []byte(Refused.String())},
			{HeaderDetail, appendHeaderValue(nil, cut([]byte("JetStream does not take it: "+r.Refused.Error()), subjects.MaxSubjectBytes))},
		}, m.Headers...)
		if topic != "" && !hasHeader(m.Headers, HeaderTopic) {
			m.Headers = append(m.Headers, Header{HeaderTopic, appendHeaderValue(nil, []byte(topic))})
		}
	} else {
		m.Payload, m.Final = nil, true
		m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h Header) bool {
			return h.Name != HeaderReason && h.Name != HeaderDetail
		})
	}
	l.publisher.Publish(&m)
}

func hasHeader(headers []Header, name string) bool {
	for _, h := range headers {
		if h.Name == name {
			return true
		}
	}
	return false
}

// stamp formats broker times; consecutive messages mostly share the second.
type stamp struct {
	second int64
	text   [32]byte // stampLayout, and room for the nanoseconds that AppendFormat writes first
}

const stampLayout = "2006-01-02T15:04:05.000Z"

// format returns ms since the epoch as RFC 3339. The bytes are valid until the
// next call.
func (s *stamp) format(ms int64) []byte {
	second := ms / 1000
	if second != s.second || s.text[0] == 0 {
		const maxSecond = 253402300799 // 9999-12-31T23:59:59Z, the last of RFC 3339
		s.second = min(second, maxSecond)
		time.Unix(s.second, 0).UTC().AppendFormat(s.text[:0], stampLayout)
	}
	n := ms % 1000
	s.text[20], s.text[21], s.text[22] = byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10)
	return s.text[:len(stampLayout)]
}
