package consume

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/subjects"
)

// errNoCause stands in where a handler gives none.
var errNoCause = errors.New("the handler gave no cause")

// maxDetail bounds the sentence in a header, in bytes.
const maxDetail = 1024

// maxCopySubject bounds a copy's subject, in bytes. It stands in one line with the
// reply's, and nats-server cuts the connection of whoever sends a line of more than
// 4,096 (max_control_line).
const maxCopySubject = 3072

// quarantine stores a copy of m under quarantine.bad_payload.<its subject> and
// returns once JetStream has it. A second copy within the quarantine stream's
// duplicate window is not stored again. Also for what no handler has seen.
func (w *Workers) quarantine(ctx context.Context, m *Message, cause error) error {
	if cause == nil {
		cause = errNoCause
		m.cause = cause
	}
	copy := quarantineCopy(m, cause)
	if len(copy.Subject) > maxCopySubject {
		// It cannot go back from here: its subject is not the copy's.
		withoutPayload(copy, m, fmt.Sprintf("its subject of %d bytes is too long", len(m.Subject)))
		copy.Subject = copy.Subject[:strings.LastIndexByte(copy.Subject[:maxCopySubject], '.')]
	}
	_, err := w.o.JetStream.PublishMsg(ctx, copy)
	if err != nil && tooLarge(err) {
		// The headers took it over the limit.
		withoutPayload(copy, m, fmt.Sprintf("its %d bytes are too large", len(m.Data)))
		_, err = w.o.JetStream.PublishMsg(ctx, copy)
	}
	if err != nil {
		return fmt.Errorf("store a message in quarantine: %w", conn.Explain(err, copy.Subject))
	}
	w.counts.quarantined.Add(1)
	if w.o.Hooks.Quarantined != nil {
		w.o.Hooks.Quarantined(m, cause)
	}
	return nil
}

// withoutPayload makes copy a note of where m is.
func withoutPayload(copy *nats.Msg, m *Message, why string) {
	copy.Header.Set(bridge.HeaderDetail, copy.Header.Get(bridge.HeaderDetail)+
		fmt.Sprintf("; %s to be kept here, see sequence %d of stream %s", why, m.Sequence, m.Stream))
	copy.Header.Set(bridge.HeaderSize, strconv.Itoa(len(m.Data)))
	copy.Data = nil
}

// quarantineAway: it is not about this message.
func quarantineAway(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, natsjs.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed)
}

func tooLarge(err error) bool {
	var api *natsjs.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &api) && api.ErrorCode == 10054
}

// quarantineCopy is m as it lies in quarantine: what the publisher said, the
// reason, the id and the time under which it was known, so that a copy back to its
// subject is the same message. JetStream's own headers stay behind: each is an
// order to a stream.
func quarantineCopy(m *Message, cause error) *nats.Msg {
	reason := bridge.BadPayload.String()
	header := nats.Header{}
	for name, values := range m.Header {
		if !strings.HasPrefix(name, "Nats-") {
			header[name] = values
		}
	}
	id := m.ID()
	header.Set(HeaderMessageID, id)
	header.Set(natsjs.MsgIDHeader, id+"."+reason)
	header.Set(bridge.HeaderReason, reason)
	header.Set(bridge.HeaderDetail, oneLine(cause.Error()))
	if header.Get(bridge.HeaderTopic) == "" {
		if topic, err := subjects.ToTopic(m.Subject); err == nil && topic == oneLine(topic) {
			header.Set(bridge.HeaderTopic, topic)
		}
	}
	if header.Get(bridge.HeaderTime) == "" {
		// Elsewhere it means the broker's word. Here it keeps the one time
		// that the message had, which a copy would lose.
		header.Set(bridge.HeaderTime, m.Time.UTC().Format(time.RFC3339Nano))
	}
	return &nats.Msg{
		Subject: bridge.QuarantineSubject + "." + reason + "." + m.Subject,
		Header:  header, Data: m.Data,
	}
}

// oneLine makes text fit for a header.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "")
	}
	return strings.TrimSpace(text)
}
