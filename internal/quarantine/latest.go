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
	var info struct {
		State natsjs.StreamState `json:"state"`
	}
	if err := request(ctx, s.Conn, s.API+".STREAM.INFO."+s.Stream, nil, &info); err != nil {
		return nil, err
	}
	all, holes := []Message{}, 0
	for sequence := info.State.LastSeq; sequence >= max(info.State.FirstSeq, 1) && len(all) < n && holes < maxHoles; sequence-- {
		var response struct {
			Message *struct {
				Subject string    `json:"subject"`
				Seq     uint64    `json:"seq"`
				Hdrs    []byte    `json:"hdrs"`
				Data    []byte    `json:"data"`
				Time    time.Time `json:"time"`
			} `json:"message"`
		}
		body := map[string]uint64{"seq": sequence}
		if err := request(ctx, s.Conn, s.API+".STREAM.MSG.GET."+s.Stream, body, &response); err != nil {
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

// request sends a request to JetStream's API. If the message does not exist, response is unchanged.
func request(ctx context.Context, nc *nats.Conn, subject string, body, response any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	reply, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return fmt.Errorf("request %s: %w", subject, err)
	}
	var failed struct {
		Error *natsjs.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &failed); err != nil {
		return fmt.Errorf("decode the response of %s: %w", subject, err)
	}
	if e := failed.Error; e != nil {
		if e.ErrorCode == codeNoMessage {
			return nil
		}
		return fmt.Errorf("request %s: %w", subject, e)
	}
	if err := json.Unmarshal(reply.Data, response); err != nil {
		return fmt.Errorf("decode the response of %s: %w", subject, err)
	}
	return nil
}
