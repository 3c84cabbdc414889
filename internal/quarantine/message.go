package quarantine

import (
	"strconv"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/consume"
)

// Message is a message in quarantine, for display. Topic, names, detail and payload come from a device,
// which may be malicious, so they must be escaped before printing.
type Message struct {
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"` // when it was quarantined
	Reason   string    `json:"reason"`
	// Detail explains the reason in one sentence.
	Detail string `json:"detail,omitempty"`
	// Tenant and Device are those of the topic. They are empty if the topic matches no pattern.
	Tenant string `json:"tenant,omitempty"`
	Device string `json:"device,omitempty"`
	Topic  string `json:"topic,omitempty"`
	// CN is the certificate's common name as attested by the broker.
	CN       string `json:"cn,omitempty"`
	ID       string `json:"id,omitempty"`
	Subject  string `json:"subject"`
	Retained bool   `json:"retained,omitempty"`
	// ByIngest means that the message was stored in its stream and a worker could not process it.
	ByIngest bool `json:"by_ingest,omitempty"`
	// Size is the size of the payload that the device sent. Kept is the size of the part in
	// quarantine.
	Size int `json:"size"`
	Kept int `json:"kept"`
	// At is the time at which the broker received the message, if known.
	At time.Time `json:"at,omitzero"`
	// Payload is nil if only the headers were read.
	Payload []byte `json:"payload,omitempty"`
}

// headerKept is the header with the payload size of a message that is read without payload.
const headerKept = "Nats-Msg-Size"

// message converts a quarantined message. The rules determine its tenant and device.
func message(m *natsjs.RawStreamMsg, rules *bridge.Rules) Message {
	c := parse(m)
	validated := rules.Restore(&c.Rejected, len(m.Data))
	out := Message{
		Sequence: m.Sequence, Stored: m.Time.UTC(), Reason: c.Reason, Detail: m.Header.Get(bridge.HeaderDetail),
		Tenant: string(validated.Tenant), Device: string(validated.Device), Topic: string(c.Topic), CN: string(c.CN), ID: c.ID,
		Subject: m.Subject, Retained: c.Retained, ByIngest: c.worker != nil, Size: c.Size, Kept: len(m.Data), Payload: m.Data,
	}
	if out.ByIngest {
		out.ID = m.Header.Get(consume.HeaderMessageID)
	}
	if m.Header.Get(bridge.HeaderTime) != "" {
		out.At = c.At.UTC()
	}
	if kept, err := strconv.Atoi(m.Header.Get(headerKept)); err == nil {
		out.Kept = kept
		if m.Header.Get(bridge.HeaderSize) == "" {
			out.Size = kept
		}
	}
	return out
}
