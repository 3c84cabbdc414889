package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
)

// maxHoles bounds the number of deleted sequences that Latest requests.
const maxHoles = 50

// Source is a quarantine stream that is read without a consumer.
type Source struct {
	Conn *nats.Conn
	// API is the prefix of the subjects of JetStream's API.
	API string
	// Stream is the quarantine stream's name.
	Stream string
	// Rules determine tenant and device of a topic.
	Rules *bridge.Rules
}

// Latest returns the newest n messages, the newest first, without payload. It requests the messages one
// by one, so it only needs the permissions for $JS.API.STREAM.INFO and $JS.API.STREAM.MSG.GET, which the
// bridge has.
func (s *Source) Latest(ctx context.Context, n int) ([]Message, error) {
	info, err := s.request(ctx, "STREAM.INFO", nil)
	if err != nil {
		return nil, err
	}
	all, holes := []Message{}, 0
	for sequence := info.State.LastSeq; sequence >= max(info.State.FirstSeq, 1) && len(all) < n && holes < maxHoles; sequence-- {
		response, err := s.request(ctx, "STREAM.MSG.GET", fmt.Appendf(nil, `{"seq":%d}`, sequence))
		if err != nil {
			return nil, err
		}
		m := response.Message
		if m == nil || m.Subject == claimSubject {
			holes++
			continue
		}
		header, err := nats.DecodeHeadersMsg(m.Hdrs)
		if err != nil {
			header = nats.Header{} // published manually
		}
		read := message(&natsjs.RawStreamMsg{Subject: m.Subject, Sequence: m.Seq, Header: header, Data: m.Data, Time: m.Time}, s.Rules)
		read.Payload = nil
		all = append(all, read)
	}
	return all, nil
}

// codeNoMessage is JetStream's error code for a sequence without a message.
const codeNoMessage = 10037

// response is the response to either request.
type response struct {
	Error   *natsjs.APIError   `json:"error"`
	State   natsjs.StreamState `json:"state"`
	Message *struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Hdrs    []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"` // nil: it does not exist
}

// request sends a request about the stream to JetStream's API.
func (s *Source) request(ctx context.Context, method string, body []byte) (*response, error) {
	subject := s.API + "." + method + "." + s.Stream
	reply, err := s.Conn.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	r := &response{}
	if err := json.Unmarshal(reply.Data, r); err != nil {
		return nil, fmt.Errorf("decode the response of %s: %w", subject, err)
	}
	if r.Error != nil && r.Error.ErrorCode != codeNoMessage {
		return nil, fmt.Errorf("request %s: %w", subject, r.Error)
	}
	return r, nil
}
