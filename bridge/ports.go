// Package bridge is the core of mqtt-nats-bridge: the lane. A lane takes what
// one MQTT session delivers, validates it, assigns a message id, hands it to a
// publisher and acknowledges it to the broker once it is stored, in the order
// of delivery.
//
// The package knows neither paho nor nats.go. Its two ends are the interfaces of
// this file: [Receiver] and [Conn] towards MQTT, [Publisher] and [Settler]
// towards JetStream. DESIGN.md in this directory has the reasons.
package bridge

import "errors"

// Delivery is one PUBLISH as the broker sent it. Topic and Payload alias the connection's
// read buffer: they are valid only during the call.
type Delivery struct {
	Topic   []byte
	Payload []byte
	// PayloadSize is the size in bytes of the payload on the wire. It exceeds
	// len(Payload) only if the packet exceeded the maximum packet size and its payload
	// was cut.
	PayloadSize int
	// ReceivedAt is when the bytes were read from the socket, in ns since the
	// Unix epoch.
	ReceivedAt int64
	PacketID   uint16 // 0 at QoS 0
	QoS        byte   // 0 or 1
	Dup        bool
	Retain     bool
}

// Conn is the network connection that delivered a message. Only there can the message be
// acknowledged: once the connection is closed both methods do nothing (MQTT 3.1.1 §4.4:
// unacknowledged messages are redelivered on the next one).
type Conn interface {
	// Ack appends a PUBACK to the connection's write buffer and never waits:
	// it is called under the lane's lock. Safe for concurrent use.
	Ack(packetID uint16)
	// Flush writes the appended PUBACKs. It may wait for a broker that does not read, so
	// the caller must not hold a lock that others need. The connection itself calls it
	// before it waits for the broker; after Settle the lane does. Safe for concurrent
	// use.
	Flush()
}

// Fencer is implemented by connections that can find out what the broker has handled.
type Fencer interface {
	// Fence asks the broker to confirm that it has handled every PUBACK appended so
	// far; then Confirmed is called with the mark. It never waits, and does nothing
	// while an earlier request is unanswered.
	Fence(mark uint64)
}

// Confirmer is implemented by receivers that use a [Fencer].
type Confirmer interface {
	// Confirmed is called like Deliver.
	Confirmed(c Conn, mark uint64)
}

// Receiver gets the events of an MQTT session. All calls for one
// connection come from one goroutine, Connected first and Disconnected last; a
// new connection's Connected comes after the old one's Disconnected.
type Receiver interface {
	// Connected means that the broker accepted the connection; nothing was delivered
	// on it yet.
	Connected(c Conn, sessionPresent bool)
	// Deliver hands over one PUBLISH. It must not block and must not keep d.
	Deliver(c Conn, d *Delivery)
	// Disconnected means that c delivers nothing more; PUBACKs appended to it from now
	// on are dropped.
	Disconnected(c Conn)
}

// Message is a message for JetStream. The publisher copies what it needs to keep before
// Publish returns.
type Message struct {
	// Token is the caller's and is returned in the Result.
	Token uint64
	// OrderKey is the same for all messages whose order must be kept: those of one
	// device. A publisher with strict order relies on it.
	OrderKey uint64
	Subject  []byte
	// ID becomes the Nats-Msg-Id header; empty: none.
	ID      []byte
	Headers []Header
	Payload []byte
	// PacketID is the id under which the broker delivered the message; 0 at QoS 0.
	PacketID uint16
	// LastResort means that there is no alternative if JetStream refuses the message. The
	// publisher then keeps it and tries again.
	LastResort bool
	// FirstAttempt is not later than the first time at which the message may have been
	// sent to JetStream, in ns since the Unix epoch; 0: it was not sent. JetStream
	// forgets an id after its duplicate window, so if FirstAttempt is longer ago the
	// publisher asks the stream before it sends the message.
	FirstAttempt int64
}

// Header is one NATS header line. Value contains no CR or LF.
type Header struct {
	Name  string
	Value []byte
}

// Publisher stores messages in JetStream, in the order of the Publish calls.
type Publisher interface {
	// Publish takes over a message. It does not wait for the answer, which the Settler
	// gets exactly once per message, from another goroutine, never from within Publish.
	Publish(m *Message)
}

// Settler gets the outcome of published messages.
type Settler interface {
	// Settle reports one message. r and what it points to are valid only
	// during the call. The settler may call Publish.
	Settle(r *Result)
	// SettleDone follows one or more calls of Settle when no further answer is
	// available: acknowledgements should be written now.
	SettleDone()
}

// ErrSubjectFull means that a message was refused permanently because the stream limits the
// messages per subject. Under another subject it would be stored.
var ErrSubjectFull = errors.New("the subject is full")

// Result is JetStream's final answer on one message.
type Result struct {
	Token uint64
	// At is when the answer came, in ns since the Unix epoch; 0 means now.
	At int64
	// Duplicate means that the stream had the message already. It is stored.
	Duplicate bool
	// Refused is nil if the message is stored, else why JetStream will never take it.
	Refused error
	// Message is the refused message, else nil.
	Message *Message
}
