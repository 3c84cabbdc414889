package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
)

// parsePubAck parses the answer to a publish. A nil error means stored; duplicate means that the
// stream already had the message.
//
// The server writes a success as {"stream":"NAME","seq":N}, with "domain" before and "duplicate"
// after the sequence (nats-server 2.15, stream.go). That shape is parsed without a JSON decoder.
// Everything else is decoded, and "error" is checked first, because an error answer contains a
// stream name too.
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

// scanPubAck parses exactly the success shapes; ok is false for anything else.
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
	// The server writes `,"duplicate": true` by hand, and omits the space when it marshals.
	if rest, has := bytes.CutPrefix(b, ackDuplicate); has {
		b, duplicate = rest, true
	} else if rest, has := bytes.CutPrefix(b, []byte(`,"duplicate": true`)); has {
		b, duplicate = rest, true
	}
	return duplicate, len(b) == 1 && b[0] == '}'
}

// cutString cuts prefix, a JSON string without escapes, and its closing quote.
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

// answer handles JetStream's answer to one message. It runs on the goroutine of the inbox
// subscription.
func (p *Publisher) answer(m *nats.Msg, more bool) {
	p.calls.RLock()
	defer p.calls.RUnlock()
	open := true
	seq, attempt, ok := parseReply(m.Subject)
	if !ok {
		open = p.handleLookupReply(m)
	} else {
		duplicate, err := parsePubAck(m)
		open = p.answered(seq, attempt, duplicate, err)
	}
	if open && !more {
		p.opts.Settler.SettleDone()
	}
}

// parseReply parses number and attempt, the last two tokens of a reply subject.
func parseReply(s string) (seq uint64, attempt uint32, ok bool) {
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return 0, 0, false
	}
	last, err1 := strconv.ParseUint(s[dot+1:], 36, 32)
	s = s[:dot]
	seq, err2 := strconv.ParseUint(s[strings.LastIndexByte(s, '.')+1:], 36, 64)
	return seq, uint32(last), err1 == nil && err2 == nil
}

// answered applies an answer. A positive answer counts for any attempt, a negative one only for the
// latest. It reports false once the publisher is closed.
func (p *Publisher) answered(seq uint64, attempt uint32, duplicate bool, err error) (open bool) {
	p.mu.Lock()
	e := p.win.unanswered(seq)
	if p.closed || e == nil || err != nil && attempt != e.attempt {
		open = !p.closed
		p.mu.Unlock()
		return open
	}
	now := time.Now() // read once per message; the lane needs it too
	result := bridge.Result{Token: e.token, At: now.UnixNano(), Duplicate: duplicate}
	if err != nil {
		if Classify(err) != Reject || e.lastResort {
			p.retryRefused(seq, err)
			p.mu.Unlock()
			return true
		}
		result.Refused, result.Message = err, e.clone()
	}
	p.proven = p.proven || err == nil
	p.settled(seq, attempt, now)
	p.mu.Unlock()
	p.opts.Settler.Settle(&result)
	return true
}

// settled removes a message from the window and sends those that may follow. attempt is the one
// that was answered; 0 if the server was not asked.
func (p *Publisher) settled(seq uint64, attempt uint32, now time.Time) {
	head := p.win.head
	p.inFlightKeys.end(p.win.at(seq))
	p.win.settle(seq)
	if p.win.head != head {
		p.progress = now
		p.headSettled(attempt)
	}
	if !p.recovery.active && p.win.next < p.win.tail {
		p.pump()
	}
}

// reportRefused settles the messages that nats.go refused to send.
func (p *Publisher) reportRefused() {
	for {
		p.mu.Lock()
		if len(p.refused) == 0 || p.closed {
			p.mu.Unlock()
			return
		}
		r := p.refused[0]
		p.refused = p.refused[1:]
		e := p.win.unanswered(r.seq)
		if e == nil {
			p.mu.Unlock()
			continue
		}
		result := bridge.Result{Token: e.token, Refused: r.err, Message: e.clone()}
		p.settled(r.seq, 0, time.Now())
		p.mu.Unlock()
		p.opts.Settler.Settle(&result)
		p.opts.Settler.SettleDone()
	}
}
