package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// Bounds of a quarantine copy, in bytes. A device chooses topic, common name and payload,
// and none of them may make a copy that cannot be stored: JetStream accepts headers of
// 64 KiB, and the subject is part of a protocol line of max_control_line, 4 KiB by default.
const (
	// maxDetail bounds the sentence in HeaderDetail.
	maxDetail = 512
	// maxTopic bounds the topic in HeaderTopic on an accepted message.
	maxTopic = 4 * subjects.MaxSubjectBytes
	// oversizeKept is how much of a payload over the limit is kept, to show what the
	// message was. It could not be replayed anyway.
	oversizeKept = 1 << 10
	// smallValue and smallPayload bound a copy that is cut to fit.
	smallValue, smallPayload = 128, 128
	// maxExcerpt bounds a name quoted in a detail.
	maxExcerpt = 64
)

// excerpt quotes a name of any length for a detail.
func excerpt(b []byte) string {
	if len(b) <= maxExcerpt {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:maxExcerpt], len(b))
}

// cut shortens a value that would make a header too long to be stored.
func cut(b []byte, limit int) []byte {
	if len(b) > limit {
		return b[:limit]
	}
	return b
}

// kept returns the part of the payload that a quarantine copy contains.
func (v *validator) kept(d *Delivery) []byte {
	if d.PayloadSize > min(v.limits.MaxPayload, len(d.Payload)) {
		return cut(d.Payload, min(v.limits.MaxPayload, oversizeKept))
	}
	return d.Payload
}

// quarantined fills l.message with the quarantine copy.
func (l *Lane) quarantined(d *Delivery, number uint64) {
	m, j := &l.message, l.validator
	l.begin(d, number)
	l.subject = append(l.subject[:0], QuarantineSubject+"."...)
	l.subject = append(l.subject, j.reason.String()...)
	if j.subject != nil {
		l.subject = append(l.subject, '.')
		l.subject = append(l.subject, j.subject...)
	}
	m.Subject, m.Payload = l.subject, j.kept(d)
	detail := cut([]byte(j.detail), maxDetail)
	whole := len(m.Payload) == d.PayloadSize
	if !whole {
		detail = fmt.Appendf(detail, "; its first %d bytes are kept", len(m.Payload))
	}
	l.header(HeaderReason, []byte(j.reason.String()))
	l.header(HeaderDetail, detail)
	l.header(HeaderTopic, cut(j.topic, subjects.MaxSubjectBytes))
	if !whole {
		l.header(HeaderSize, strconv.AppendInt(nil, int64(d.PayloadSize), 10))
	}
	l.provenance(d)
}

// refused turns a message that JetStream will never take into its quarantine copy, which
// takes over the slot. If the copy's subject is full, the copy gets a subject of its own. A
// copy that is refused for another reason is cut to fit, and then reduced to the reason; the
// publisher keeps that one until it is stored. So no message is acknowledged that is not
// stored.
func (l *Lane) refused(s *slot, r *Result) {
	m := *r.Message
	full := errors.Is(r.Refused, ErrSubjectFull)
	switch {
	case s.reason == verdict.Accepted:
		stored := l.refusedCopy(s, &m, r.Refused)
		if s.traced {
			l.spans[r.Token].Detail = refusedDetail(r.Refused)
		}
		if !stored {
			l.markSettled(s)
			if s.traced {
				l.endSpan(s, r.Token, l.opts.Now(), false)
			}
			l.advance()
			return
		}
	case full && !s.overflowed:
		s.overflowed = true
		m.Subject = ownSubject(s.reason, m.ID)
	case !full && !s.shortened:
		s.shortened = true
		cutToFit(&m)
	default:
		m.Payload, m.LastResort = nil, true
		m.Headers = []Header{{HeaderReason, []byte(s.reason.String())}}
	}
	l.publisher.Publish(&m)
}

// refusedCopy turns m, which was accepted and then refused, into its copy. It reports false
// if the device's quarantine bound does not allow one.
func (l *Lane) refusedCopy(s *slot, m *Message, why error) bool {
	s.reason = verdict.Refused
	l.counts.Rejected[verdict.Refused]++
	if s.wrapped {
		m.Payload = unwrap(m.Payload)
	}
	bound := l.opts.Limits.Snapshot().OfQuarantine().Meter
	size := len(m.Payload) + len(m.Subject)
	if !l.opts.Devices.Reject(s.sender, verdict.Refused, bound, l.opts.Now(), size) || !l.opts.Rules.Quarantine {
		l.counts.QuarantineSkipped++
		return false
	}
	subject := []byte(QuarantineSubject + "." + verdict.Refused.String() + ".")
	topic, _ := subjects.ToTopic(string(m.Subject)) // "" where the route's template is not reversible
	m.Subject = append(subject, m.Subject...)
	m.Headers = append([]Header{
		{HeaderReason, []byte(verdict.Refused.String())},
		{HeaderDetail, appendHeaderValue(nil, cut([]byte(refusedDetail(why)), maxDetail))},
	}, m.Headers...)
	if topic != "" && !hasHeader(m.Headers, HeaderTopic) {
		m.Headers = append(m.Headers, Header{HeaderTopic, appendHeaderValue(nil, []byte(topic))})
	}
	return true
}

func refusedDetail(why error) string { return "JetStream does not take it: " + why.Error() }

// ownSubject returns a subject that no other message has: a stream with a limit on messages
// per subject has room for the copy there.
func ownSubject(r verdict.Reason, id []byte) []byte {
	return fmt.Appendf(nil, "%s.%s.overflow.%016x", QuarantineSubject, r, xxhash.Sum64(id))
}

// cutToFit reduces the copy to less than 2 KiB that still show what the message was. A topic
// or a name is omitted rather than shortened: it would be another's.
func cutToFit(m *Message) {
	size := len(m.Payload)
	m.Payload = cut(m.Payload, smallPayload)
	m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h Header) bool {
		return len(h.Value) > smallValue && h.Name != HeaderDetail
	})
	for i, h := range m.Headers {
		m.Headers[i].Value = cut(h.Value, smallValue)
	}
	if size > len(m.Payload) && !hasHeader(m.Headers, HeaderSize) {
		m.Headers = append(m.Headers, Header{HeaderSize, strconv.AppendInt(nil, int64(size), 10)})
	}
}

func hasHeader(headers []Header, name string) bool {
	return slices.ContainsFunc(headers, func(h Header) bool { return h.Name == name })
}
