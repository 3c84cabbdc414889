package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// wrap builds the envelope around d's payload. The payload's bytes do not change: no number is
// rounded, no duplicate name dropped. It reports false if the payload is not JSON in UTF-8 (RFC
// 8259 section 8.1). encoding/json accepts invalid UTF-8 in a string, but most decoders would then
// reject the whole envelope.
func (v *validator) wrap(d *Delivery) bool {
	if !json.Valid(d.Payload) || !utf8.Valid(d.Payload) {
		return false
	}
	b := append(v.envelope[:0], `{"topic":`...)
	b = appendJSONString(b, v.topic)
	b = append(b, `,"tenant_id":`...)
	b = appendJSONString(b, v.match.Tenant())
	b = append(b, `,"device_id":`...)
	b = appendJSONString(b, v.match.Device())
	b = append(b, `,"msg_type":`...)
	b = appendJSONString(b, v.messageType())
	// Without attestation there is no proven name. The field is still written, for consumers that
	// require it. It is empty, which a real name never is.
	b = append(b, `,"username":`...)
	b = appendJSONString(b, v.cn)
	b = append(b, `,"payload":`...)
	b = append(b, d.Payload...)
	b = append(b, `,"ts":`...)
	ms := d.ReceivedAt / 1e6
	if v.rules.Attested != nil {
		ms = v.attested.Millis
	}
	b = strconv.AppendInt(b, ms, 10)
	v.envelope = append(b, '}')
	return true
}

// unwrap returns the payload of an envelope built by wrap. A quote within a JSON string is escaped,
// so the first "payload" is the field itself. Only digits and a brace follow the last "ts".
func unwrap(envelope []byte) []byte {
	_, rest, _ := bytes.Cut(envelope, []byte(`,"payload":`))
	if end := bytes.LastIndex(rest, []byte(`,"ts":`)); end >= 0 {
		return rest[:end]
	}
	return rest
}

// notJSON describes why wrap rejected a payload.
func notJSON(payload []byte) string {
	const what = "the payload is not JSON, which the envelope needs: "
	var syntax *json.SyntaxError
	if err := json.Unmarshal(payload, new(json.RawMessage)); errors.As(err, &syntax) {
		return fmt.Sprintf("%s%v, at byte %d of %d", what, syntax, syntax.Offset, len(payload))
	}
	return what + "it is not UTF-8"
}

// messageType returns the pattern's {type}. Without one it returns the topic levels after the
// device, such as shadow/reported or commands/ack.
func (v *validator) messageType() []byte {
	if t := v.match.Get("type"); t != nil {
		return t
	}
	// The capture is a slice of the topic, so its capacity locates its end. Searching for its text
	// could match another level.
	device := v.match.Device()
	end := cap(v.topic) - cap(device) + len(device)
	if end < len(v.topic) {
		return v.topic[end+1:]
	}
	return nil
}

// appendJSONString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, because JSON
// cannot express them.
func appendJSONString(dst, s []byte) []byte {
	for _, c := range s {
		if c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			enc.Encode(string(s)) // encoding a string cannot fail
			return append(dst, bytes.TrimRight(buf.Bytes(), "\n")...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
