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
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/subjects"
)

// errNoCause replaces a missing cause.
var errNoCause = errors.New("the handler gave no cause")

// maxDetail bounds the text in a header, in bytes.
const maxDetail = 1024

// maxCopySubject bounds a copy's subject, in bytes. The subject shares a protocol line with the
// reply subject, and nats-server closes a connection that sends a line of more than 4,096 bytes
// (max_control_line).
const maxCopySubject = 3072

// quarantine stores a copy of m under quarantine.bad_payload.<its subject> and returns once
// JetStream has it. A second copy within the quarantine stream's duplicate window is a duplicate
// and not stored. Messages that no handler has seen are also quarantined by it.
func (w *Workers) quarantine(ctx context.Context, m *Message, cause error) error {
	if cause == nil {
		cause = errNoCause
		m.cause = cause
	}
	copy := quarantineCopy(m, cause)
	if len(copy.Subject) > maxCopySubject {
		// The copy cannot be replayed, because its subject does not contain the original one.
		withoutPayload(copy, m, fmt.Sprintf("its subject of %d bytes is too long", len(m.Subject)))
		copy.Subject = copy.Subject[:strings.LastIndexByte(copy.Subject[:maxCopySubject], '.')]
	}
	_, err := w.o.JetStream.PublishMsg(ctx, copy)
	if err != nil && tooLarge(err) {
		// The added headers made it exceed the limit.
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

// withoutPayload replaces the payload of copy by a reference to m.
func withoutPayload(copy *nats.Msg, m *Message, reason string) {
	copy.Header.Set(bridge.HeaderDetail, copy.Header.Get(bridge.HeaderDetail)+
		fmt.Sprintf("; %s to be kept here, see sequence %d of stream %s", reason, m.Sequence, m.Stream))
	copy.Header.Set(bridge.HeaderSize, strconv.Itoa(len(m.Data)))
	copy.Data = nil
}

// quarantineUnavailable reports whether an error concerns quarantine as a whole and not this
// message.
func quarantineUnavailable(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, natsjs.ErrNoStreamResponse) || errors.Is(conn.Disconnected(err), conn.ErrDisconnected)
}

func tooLarge(err error) bool {
	api, ok := errors.AsType[*natsjs.APIError](err)
	return errors.Is(err, nats.ErrMaxPayload) || ok && api.ErrorCode == 10054
}

// quarantineCopy returns the copy of m for quarantine: the publisher's headers and payload, the
// reason, and the original id and time, so that a replay yields the same message. JetStream's own
// headers are omitted, because each is an instruction to a stream.
func quarantineCopy(m *Message, cause error) *nats.Msg {
	reason := verdict.BadPayload.String()
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
		// Elsewhere this is the broker's time. Here it preserves the only time that the message
		// had.
		header.Set(bridge.HeaderTime, m.Time.UTC().Format(time.RFC3339Nano))
	}
	return &nats.Msg{
		Subject: bridge.QuarantineSubject + "." + reason + "." + m.Subject,
		Header:  header, Data: m.Data,
	}
}

// oneLine converts text to one line for a header.
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
