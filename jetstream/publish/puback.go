package publish

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

// parsePubAck reads the answer to a publish. A nil error means stored, duplicate
// that the stream had the message already.
//
// The server writes a success as {"stream":"NAME","seq":N}, with "domain"
// before and "duplicate" behind the sequence (nats-server 2.15, stream.go), so
// that shape is read without a JSON decoder. Everything else goes through one,
// "error" first: an error answer carries a stream name too.
func parsePubAck(m *nats.Msg) (duplicate bool, err error) {
	if len(m.Data) == 0 {
		if m.Header.Get("Status") == "503" {
			return false, ErrNoResponders
		}
		return false, fmt.Errorf("%w: empty, status %q", ErrBadAck, m.Header.Get("Status"))
	}
	if duplicate, ok := scanPubAck(m.Data); ok {
		return duplicate, nil
	}
	var ack struct {
		Error     *APIError `json:"error"`
		Stream    string    `json:"stream"`
		Sequence  uint64    `json:"seq"`
		Duplicate bool      `json:"duplicate"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadAck, err)
	}
	if ack.Error != nil {
		return false, ack.Error
	}
	if ack.Stream == "" || ack.Sequence == 0 {
		return false, fmt.Errorf("%w: neither an error nor a stream and a sequence", ErrBadAck)
	}
	return ack.Duplicate, nil
}

var (
	ackStream    = []byte(`{"stream":"`)
	ackDomain    = []byte(`,"domain":"`)
	ackSeq       = []byte(`,"seq":`)
	ackDuplicate = []byte(`,"duplicate":true`)
)

// scanPubAck reads exactly the success shapes; ok is false for anything else.
func scanPubAck(b []byte) (duplicate, ok bool) {
	b, ok = cutString(b, ackStream)
	if !ok {
		return false, false
	}
	if rest, has := cutString(b, ackDomain); has {
		b = rest
	}
	b, ok = bytes.CutPrefix(b, ackSeq)
	if !ok {
		return false, false
	}
	n := 0
	for n < len(b) && b[n]-'0' < 10 {
		n++
	}
	if n == 0 || n > 19 || b[0] == '0' { // 20 digits may overflow a uint64
		return false, false
	}
	b = b[n:]
	// The server writes `,"duplicate": true` by hand and without the space
	// where it marshals.
	if rest, has := bytes.CutPrefix(b, ackDuplicate); has {
		b, duplicate = rest, true
	} else if rest, has := bytes.CutPrefix(b, []byte(`,"duplicate": true`)); has {
		b, duplicate = rest, true
	}
	return duplicate, len(b) == 1 && b[0] == '}'
}

// cutString cuts prefix, a JSON string without escapes and its closing quote.
func cutString(b, prefix []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(b, prefix)
	if !ok {
		return b, false
	}
	for i, c := range rest {
		switch {
		case c == '"':
			return rest[i+1:], i > 0
		case c == '\\' || c < ' ':
			return b, false
		}
	}
	return b, false
}
