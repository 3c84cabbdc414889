package quarantine

import (
	"strconv"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/consume"
)

// Message is a message in quarantine, for display. A device may have chosen its content to harm the
// reader: topic, names, detail and payload must be escaped before printing.
type Message struct {
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"` // in quarantine
	Reason   string    `json:"reason"`
	// Detail is one sentence about why.
	Detail string `json:"detail,omitempty"`
	// Tenant and Device are those of the topic; empty: it matches no pattern.
	Tenant string `json:"tenant,omitempty"`
	Device string `json:"device,omitempty"`
	Topic  string `json:"topic,omitempty"`
	// CN is the certificate's common name as attested by the broker.
	CN       string `json:"cn,omitempty"`
	ID       string `json:"id,omitempty"`
	Subject  string `json:"subject"`
	Retained bool   `json:"retained,omitempty"`
	// ByIngest means that it was in its stream, and a worker could not process it.
	ByIngest bool `json:"by_ingest,omitempty"`
	// Size is the size of the payload as the device sent it, Kept that of the part in quarantine.
	Size int `json:"size"`
	Kept int `json:"kept"`
	// At is when the broker received it, if known.
	At time.Time `json:"at,omitzero"`
	// Payload is nil if only the headers were read.
	Payload []byte `json:"payload,omitempty"`
}

// headerKept is the payload size of a message that was read without payload.
const headerKept = "Nats-Msg-Size"

// message converts a copy by these rules.
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
