package quarantine

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/consume"
)

// copied is a parsed message of the quarantine stream.
type copied struct {
	bridge.Rejected
	sequence uint64
	stored   time.Time
	// worker is set if a worker quarantined the message after it had been stored. It is the message
	// as it was in its stream, with the id of the copy.
	worker *nats.Msg
}

// parse reads the subject and headers of a quarantined message.
func parse(m *natsjs.RawStreamMsg) *copied {
	h := m.Header
	s := &copied{sequence: m.Sequence, stored: m.Time}
	s.Rejected = bridge.Rejected{
		ID: h.Get(natsjs.MsgIDHeader), Topic: header(h, bridge.HeaderTopic), CN: header(h, bridge.HeaderCN),
		Payload: m.Data, Size: len(m.Data), At: m.Time,
		Retained: h.Get(bridge.HeaderRetained) == "true", TraceParent: header(h, bridge.HeaderTraceParent),
	}
	rest := strings.TrimPrefix(m.Subject, bridge.QuarantineSubject+".")
	s.Reason, s.Subject, _ = strings.Cut(rest, ".")
	if size, err := strconv.Atoi(h.Get(bridge.HeaderSize)); err == nil {
		s.Size = size
	}
	if at, err := time.Parse(time.RFC3339, h.Get(bridge.HeaderTime)); err == nil {
		s.At = at
	}
	if h.Get(consume.HeaderMessageID) != "" {
		s.worker = nats.NewMsg(s.Subject)
		s.worker.Data = m.Data
		for name, values := range h {
			if name != bridge.HeaderReason && name != bridge.HeaderDetail {
				s.worker.Header[name] = values
			}
		}
	}
	return s
}

// header distinguishes an empty header from a missing one.
func header(h nats.Header, name string) []byte {
	if values, ok := h[name]; ok && len(values) > 0 {
		return []byte(values[0])
	}
	return nil
}

func outgoing(m *bridge.Message) *nats.Msg {
	out := nats.NewMsg(string(m.Subject))
	out.Data = m.Payload
	if len(m.ID) > 0 {
		out.Header.Set(natsjs.MsgIDHeader, string(m.ID))
	}
	for _, h := range m.Headers {
		out.Header.Set(h.Name, string(h.Value))
	}
	return out
}
