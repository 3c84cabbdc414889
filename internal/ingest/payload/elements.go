// Package payload parses the payloads of devices: it checks that jsonb accepts the JSON, and reads
// its members and the time of measurement. It does not depend on tables or messages.
package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"

	"mqtt-nats-bridge/internal/config"
)

// Clean removes bytes around the JSON that jsonb does not accept: a leading byte order mark, and
// trailing NULs and white space.
func Clean(data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	return bytes.TrimRight(data, "\x00 \t\r\n")
}

// Elements returns the JSON objects to store for a payload in the given mode. It returns one
// object, except for an array in mode split. split reports that case, because each of these objects
// needs its own id. The error is one sentence.
func Elements(data []byte, mode config.PayloadMode) (objects [][]byte, split bool, err error) {
	data = Clean(data)
	begins := bytes.TrimLeft(data, " \t\r\n")
	if mode == config.PayloadObject || len(begins) == 0 || begins[0] == '{' {
		return [][]byte{data}, false, nil
	}
	if !json.Valid(data) {
		if !utf8.Valid(data) {
			return nil, false, errors.New("the payload is not UTF-8")
		}
		text, err := json.Marshal(string(data))
		return [][]byte{wrapped(text)}, false, err
	}
	if mode == config.PayloadWrap || begins[0] != '[' {
		return [][]byte{wrapped(data)}, false, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, false, notJSON(data)
	}
	for _, e := range list {
		if e[0] != '{' {
			e = wrapped(e)
		}
		objects = append(objects, e)
	}
	return objects, true, nil
}

// wrapped returns an object with a JSON value as its member "value".
func wrapped(value []byte) []byte {
	return slices.Concat([]byte(`{"value":`), value, []byte("}"))
}
