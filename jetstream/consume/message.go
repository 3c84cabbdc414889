package consume

import (
	"cmp"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// HeaderMessageID is a header of the quarantine copy of a message that a consumer could not
// process. It contains the message's id as the consumer saw it. The copy's own Nats-Msg-Id differs:
// with the same id, JetStream would discard a replay within the stream's duplicate window as a
// duplicate.
const HeaderMessageID = "Bridge-Msg-Id"

// Message is one message of a batch. The handler reads it and settles it with Ack, Nak or
// DeadLetter; the last call counts. Data and Header are valid until the handler returns and must
// not be modified.
type Message struct {
	Subject string
	Data    []byte
	Header  nats.Header // nil: none
	Stream  string
	// Sequence is the message's sequence in the stream. It restarts when the stream is deleted and
	// created again.
	Sequence uint64
	// Time is when the stream stored the message.
	Time time.Time
	// Delivered counts the deliveries, including this one; 1 is the first.
	Delivered uint64

	msg     natsjs.Msg
	outcome outcome
	delay   time.Duration
	cause   error
}

// outcome records how a handler settled a message.
type outcome int

const (
	undecided outcome = iota
	acked
	nacked
	deadLettered
)

// Ack acknowledges the message after the handler has returned. Call it once the message's effect is
// durable.
func (m *Message) Ack() { m.outcome = acked }

// Nak requests redelivery after the delay, to any worker.
func (m *Message) Nak(delay time.Duration) { m.outcome, m.delay = nacked, delay }

// DeadLetter is for a message that no later attempt can process. A copy goes to quarantine with the
// cause, then the message is terminated.
func (m *Message) DeadLetter(cause error) { m.outcome, m.cause = deadLettered, cause }

// ErrRedelivery is the error of a message that will be redelivered; see [Message.Err].
var ErrRedelivery = errors.New("to be redelivered")

// Err is nil for a message that was acknowledged, the cause for one that was dead-lettered and
// [ErrRedelivery] for any other.
func (m *Message) Err() error {
	switch m.outcome {
	case acked:
		return nil
	case deadLettered:
		return m.cause
	}
	return ErrRedelivery
}

// ID identifies a message uniquely and is stable across redeliveries and a replay from quarantine.
// It is the publisher's Nats-Msg-Id. Without one it consists of the stream's name, the sequence and
// the time, because a stream that is created again counts from 1.
func (m *Message) ID() string {
	if id := cmp.Or(m.Header.Get(HeaderMessageID), m.Header.Get(natsjs.MsgIDHeader)); id != "" {
		return id
	}
	return m.Stream + "-" + strconv.FormatUint(m.Sequence, 10) + "-" + strconv.FormatInt(m.Time.UnixNano(), 10)
}

// receive wraps a delivery. It returns an error for a message that JetStream did not deliver; a
// pull never returns one.
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
