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

// Bounds of a quarantine copy, in bytes. A device chooses topic, common name and payload, and none
// of them may produce a copy that cannot be stored. JetStream accepts headers of up to 64 KiB. The
// subject is part of a protocol line, which max_control_line limits to 4 KiB by default.
const (
	// maxDetail bounds the text in HeaderDetail.
	maxDetail = 512
	// maxTopic bounds the topic in HeaderTopic on an accepted message.
	maxTopic = 4 * subjects.MaxSubjectBytes
	// oversizeKept is the number of bytes kept of a payload over the limit, to show what the
	// message was. Such a message cannot be replayed in any case.
	oversizeKept = 1 << 10
	// smallValue and smallPayload bound the parts of a copy that is cut to fit.
	smallValue, smallPayload = 128, 128
	// maxExcerpt bounds a name quoted in a detail.
	maxExcerpt = 64
)

// excerpt quotes a name of any length for use in a detail.
func excerpt(b []byte) string {
	if len(b) <= maxExcerpt {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:maxExcerpt], len(b))
}

// cut shortens a value so that its header can be stored.
func cut(b []byte, limit int) []byte {
	if len(b) > limit {
		return b[:limit]
	}
	return b
}

// keptPayload returns the part of the payload that a quarantine copy contains.
func (v *validator) keptPayload(d *Delivery) []byte {
	if d.PayloadSize > min(v.limits.MaxPayload, len(d.Payload)) {
		return cut(d.Payload, min(v.limits.MaxPayload, oversizeKept))
	}
	return d.Payload
}

// fillQuarantined fills l.message with the quarantine copy.
func (l *Lane) fillQuarantined(d *Delivery, number uint64) {
	m, v := &l.message, l.validator
	l.beginMessage(d, number)
	l.subject = append(l.subject[:0], QuarantineSubject+"."...)
	l.subject = append(l.subject, v.reason.String()...)
	if v.subject != nil {
		l.subject = append(l.subject, '.')
		l.subject = append(l.subject, v.subject...)
	}
	m.Subject, m.Payload = l.subject, v.keptPayload(d)
	detail := cut([]byte(v.detail), maxDetail)
	whole := len(m.Payload) == d.PayloadSize
	if !whole {
		detail = fmt.Appendf(detail, "; its first %d bytes are kept", len(m.Payload))
	}
	l.header(HeaderReason, []byte(v.reason.String()))
	l.header(HeaderDetail, detail)
	l.header(HeaderTopic, cut(v.topic, subjects.MaxSubjectBytes))
	if !whole {
		l.header(HeaderSize, strconv.AppendInt(nil, int64(d.PayloadSize), 10))
	}
	l.originHeaders(d)
}

// handleRefusal turns a message that JetStream refused permanently into its quarantine copy, which
// takes over the slot. If the subject of a copy is full, the copy gets a unique subject. A copy
// refused for another reason is first cut to fit, then reduced to the reason. The publisher retries
// this last form until it is stored, so no message is acknowledged without being stored.
func (l *Lane) handleRefusal(s *slot, r *Result) {
	m := *r.Message
	full := errors.Is(r.Refused, ErrSubjectFull)
	switch {
	case s.reason == verdict.Accepted:
		stored := l.rejectRefused(s, &m, r.Refused)
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

// rejectRefused turns m, which was accepted and then refused, into its quarantine copy. It reports
// false if the copy must not be stored.
func (l *Lane) rejectRefused(s *slot, m *Message, cause error) bool {
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
		{HeaderDetail, appendHeaderValue(nil, cut([]byte(refusedDetail(cause)), maxDetail))},
	}, m.Headers...)
	if topic != "" && !hasHeader(m.Headers, HeaderTopic) {
		m.Headers = append(m.Headers, Header{HeaderTopic, appendHeaderValue(nil, []byte(topic))})
	}
	return true
}

func refusedDetail(cause error) string { return "JetStream refused it: " + cause.Error() }

// ownSubject returns a subject that no other message has. A stream that limits the messages per
// subject accepts the copy under it.
func ownSubject(r verdict.Reason, id []byte) []byte {
	return fmt.Appendf(nil, "%s.%s.overflow.%016x", QuarantineSubject, r, xxhash.Sum64(id))
}

// cutToFit reduces the copy to less than 2 KiB that still show what the message was. A topic or
// name that is too long is omitted: shortened, it could be another device's.
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
