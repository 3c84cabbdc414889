// Package bridge is the core of mqtt-nats-bridge: the lane. A lane receives the deliveries of one
// MQTT session, validates them, assigns message ids and passes them to a publisher. It acknowledges
// each message to the broker once it is stored, in order of delivery.
//
// The package imports neither paho nor nats.go. Its two ends are the interfaces in this file:
// [Receiver] and [Conn] towards MQTT, [Publisher] and [Settler] towards JetStream. DESIGN.md in
// this directory explains the design decisions.
package bridge

import "errors"

// Delivery is one PUBLISH as sent by the broker. Topic and Payload alias the connection's read
// buffer and are valid only during the call.
type Delivery struct {
	Topic   []byte
	Payload []byte
	// PayloadSize is the payload's size on the wire, in bytes. It exceeds len(Payload) only if the
	// packet exceeded the maximum packet size and its payload was cut.
	PayloadSize int
	// ReceivedAt is when the bytes were read from the socket, in ns since the epoch.
	ReceivedAt int64
	PacketID   uint16 // 0 at QoS 0
	QoS        byte   // 0 or 1
	Dup        bool
	Retain     bool
}

// Conn is the network connection that delivered a message. The message can be acknowledged only on
// it. Once the connection is closed, both methods do nothing: the broker redelivers unacknowledged
// messages on the next connection (MQTT 3.1.1 §4.4).
type Conn interface {
	// Ack appends a PUBACK to the connection's write buffer. It never waits, because it is called
	// under the lane's lock. Safe for concurrent use.
	Ack(packetID uint16)
	// Flush writes the appended PUBACKs. It may block on a broker that does not read, so the caller
	// must not hold a lock that others need. The connection calls it before it waits for the
	// broker; the lane calls it after Settle. Safe for concurrent use.
	Flush()
}

// Fencer is implemented by connections that can ask which PUBACKs the broker has handled.
type Fencer interface {
	// Fence asks the broker to confirm that it has handled every PUBACK appended so far. On
	// confirmation, Confirmed is called with the mark. Fence never waits, and does nothing while an
	// earlier request is unanswered.
	Fence(mark uint64)
}

// Confirmer is implemented by receivers that use a [Fencer].
type Confirmer interface {
	// Confirmed reports that the broker has handled the PUBACKs before the fence with this mark. It
	// is called from the same goroutine as Deliver.
	Confirmed(c Conn, mark uint64)
}

// Receiver gets the events of an MQTT session. All calls for one connection come from one
// goroutine, Connected first and Disconnected last. Connected of a new connection follows
// Disconnected of the old one.
type Receiver interface {
	// Connected reports that the broker accepted the connection. Nothing has been delivered on it
	// yet.
	Connected(c Conn, sessionPresent bool)
	// Deliver passes one PUBLISH. It must not block and must not retain d.
	Deliver(c Conn, d *Delivery)
	// Disconnected reports that c delivers nothing more. PUBACKs appended to c from now on are
	// dropped.
	Disconnected(c Conn)
}

// Message is a message for JetStream. The publisher copies what it retains before Publish returns.
type Message struct {
	// Token identifies the message to the caller and is returned in the Result.
	Token uint64
	// OrderKey is the same for all messages whose order must be kept, such as those of one device.
	// A publisher with strict order relies on it.
	OrderKey uint64
	Subject  []byte
	// ID becomes the Nats-Msg-Id header; empty: none.
	ID      []byte
	Headers []Header
	Payload []byte
	// PacketID is the packet id of the delivery; 0 at QoS 0.
	PacketID uint16
	// LastResort means that there is no fallback if JetStream refuses the message. The publisher
	// retries it until it is stored.
	LastResort bool
	// FirstAttempt is a lower bound of the time at which the message was first sent to JetStream,
	// in ns since the epoch; 0: never sent. JetStream forgets an id after its duplicate window. If
	// FirstAttempt is longer ago, the publisher looks the message up in the stream before sending
	// it.
	FirstAttempt int64
}

// Header is one NATS header line. Value contains neither CR nor LF.
type Header struct {
	Name  string
	Value []byte
}

// Publisher stores messages in JetStream, in the order of the Publish calls.
type Publisher interface {
	// Publish takes over a message and does not wait for the answer. The Settler gets exactly one
	// result per message, from another goroutine, never from within Publish.
	Publish(m *Message)
}

// Settler gets the outcome of published messages.
type Settler interface {
	// Settle reports the result of one message. r and what it points to are valid only during the
	// call. The settler may call Publish.
	Settle(r *Result)
	// SettleDone is called after one or more calls of Settle, when no further answer is available.
	// Acknowledgements should be written now.
	SettleDone()
}

// ErrSubjectFull means that a message was refused permanently because the stream limits the
// messages per subject. It would be stored under another subject.
var ErrSubjectFull = errors.New("the subject is full")

// Result is JetStream's final answer to one message.
type Result struct {
	Token uint64
	// At is when the answer arrived, in ns since the epoch; 0 means now.
	At int64
	// Duplicate means that the stream already had the message. It is stored.
	Duplicate bool
	// Refused is the reason why JetStream will never accept the message; nil if it is stored.
	Refused error
	// Message is the refused message; nil if it is stored.
	Message *Message
}
