package bridge

import (
	"time"

	"mqtt-nats-bridge/subjects"
)

// Headers that a stored message may have besides Nats-Msg-Id. A header costs bytes on every
// message, so each is written only if it adds information.
const (
	// HeaderTopic contains the device's topic if the subject is more than the topic with dots for
	// slashes. CR, LF, and white space at either end, which a header cannot contain, are
	// percent-encoded. The subject itself is lossless.
	HeaderTopic    = "Mqtt-Topic"
	HeaderRetained = "Mqtt-Retained"
	// HeaderCN contains the certificate's CN as attested by the broker.
	HeaderCN = "Bridge-Cn"
	// HeaderTime is the time at which the broker received the message: RFC 3339 with milliseconds,
	// UTC.
	HeaderTime = "Bridge-Time"
	// HeaderReason and HeaderDetail are written on quarantined messages: the reason's token and a
	// one-sentence explanation.
	HeaderReason = "Bridge-Reason"
	HeaderDetail = "Bridge-Detail"
	// HeaderSize is written on a quarantined message whose payload was cut: the number of bytes
	// that the device sent.
	HeaderSize = "Bridge-Size"
)

// QuarantineSubject is the first token of every quarantine subject.
const QuarantineSubject = "quarantine"

// fillAccepted fills l.message with the message to store.
func (l *Lane) fillAccepted(d *Delivery, number uint64) {
	m, v := &l.message, l.validator
	l.beginMessage(d, number)
	m.Subject, m.Payload = v.subject, d.Payload
	if l.opts.Rules.format(v.route) == Envelope {
		m.Payload = v.envelope
	}
	if v.escaped {
		l.header(HeaderTopic, v.topic)
	}
	l.originHeaders(d)
}

func (l *Lane) beginMessage(d *Delivery, number uint64) {
	l.idBuf = l.appendID(l.idBuf[:0], d, number)
	l.values = l.values[:0]
	l.message.ID = l.idBuf
	l.message.FirstAttempt = 0
	if d.Dup && l.validator.attested.ID != nil { // an earlier process may have sent it
		l.message.FirstAttempt = l.validator.attested.Millis * int64(time.Millisecond)
	}
	l.message.Headers = l.headers[:0]
}

// originHeaders adds the headers that describe the message's origin.
func (l *Lane) originHeaders(d *Delivery) {
	if d.Retain {
		l.header(HeaderRetained, []byte("true"))
	}
	if l.validator.cn != nil {
		l.header(HeaderCN, cut(l.validator.cn, subjects.MaxSubjectBytes))
	}
	if l.opts.Rules.Attested != nil && l.validator.attested.ID != nil {
		l.message.Headers = append(l.message.Headers, Header{HeaderTime, l.stamp.format(l.validator.attested.Millis)})
	}
}

// header adds a header line. The value may contain any bytes.
func (l *Lane) header(name string, value []byte) {
	from := len(l.values)
	l.values = appendHeaderValue(l.values, value)
	l.message.Headers = append(l.message.Headers, Header{name, l.values[from:len(l.values):len(l.values)]})
}

// appendHeaderValue appends value as a header value. CR and LF would end the line, and NATS clients
// trim white space at either end, so these are percent-encoded.
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

// stamp formats the broker's timestamps. It caches the second, which consecutive messages mostly
// share.
type stamp struct {
	second int64
	text   [32]byte // stampLayout, and room for the nanoseconds that AppendFormat writes first
}

const stampLayout = "2006-01-02T15:04:05.000Z"

// format returns ms since the epoch as RFC 3339. The result is valid until the next call.
func (s *stamp) format(ms int64) []byte {
	second := ms / 1000
	if second != s.second || s.text[0] == 0 {
		const maxSecond = 253402300799 // 9999-12-31T23:59:59Z, the last second of RFC 3339
		s.second = min(second, maxSecond)
		time.Unix(s.second, 0).UTC().AppendFormat(s.text[:0], stampLayout)
	}
	n := ms % 1000
	s.text[20], s.text[21], s.text[22] = byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10)
	return s.text[:len(stampLayout)]
}
