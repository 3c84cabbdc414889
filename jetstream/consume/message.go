package consume

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// HeaderMessageID stands on the quarantine copy of a message that a consumer
// could not use: the id under which it knew the message. The copy's own
// Nats-Msg-Id differs, or copying it back to its subject within the stream's
// duplicate window would be answered "stored already" and store nothing.
const HeaderMessageID = "Bridge-Msg-Id"

// Message is one message of a batch. The handler reads it and gives its word with
// Done, Retry or Poison; the last word counts. Data and Header are the handler's
// until it returns and must not be changed.
type Message struct {
	Subject string
	Data    []byte
	Header  nats.Header // nil where there is none
	Stream  string
	// Sequence is the message's in the stream. It begins anew when the stream
	// is deleted and made again.
	Sequence uint64
	// Time is when the stream took the message.
	Time time.Time
	// Delivered counts this delivery too: 1 is the first.
	Delivered uint64

	msg   natsjs.Msg
	word  word
	delay time.Duration
	cause error
}

// word is what a handler said of a message.
type word int

const (
	undecided word = iota
	done
	retry
	poison
)

// Done: the message's effect is kept; it is acknowledged.
func (m *Message) Done() { m.word = done }

// Retry: deliver it again, to whichever worker, not before the delay has passed.
func (m *Message) Retry(delay time.Duration) { m.word, m.delay = retry, delay }

// Poison: no later attempt can succeed. A copy goes to quarantine with the cause
// in one sentence, then the message is terminated.
func (m *Message) Poison(cause error) { m.word, m.cause = poison, cause }

// ID is the same whenever the same message is delivered, also from a copy that
// went through quarantine and back, and no other message's: the publisher's
// Nats-Msg-Id, or where there was none, the place and time at which the stream
// took it (both, because a stream made anew counts from 1 again).
func (m *Message) ID() string {
	if id := m.header(HeaderMessageID); id != "" {
		return id
	}
	if id := m.header(natsjs.MsgIDHeader); id != "" {
		return id
	}
	return m.Stream + "-" + strconv.FormatUint(m.Sequence, 10) + "-" + strconv.FormatInt(m.Time.UnixNano(), 10)
}

func (m *Message) header(name string) string {
	if m.Header == nil {
		return ""
	}
	return m.Header.Get(name)
}

// receive wraps a delivery. The error is that of a message that JetStream did not
// deliver, which the pull cannot return.
func receive(msg natsjs.Msg) (*Message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &Message{
		Subject: msg.Subject(), Data: msg.Data(), Header: msg.Headers(),
		Stream: meta.Stream, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Delivered: meta.NumDelivered,
		msg: msg,
	}, nil
}
