package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzEnvelope models a device that chooses its name, its topic and its payload. A JSON decoder
// must find exactly the seven keys of the envelope, with the values that the broker attested, and
// the device's payload under payload.
func FuzzEnvelope(f *testing.F) {
	for _, payload := range []string{
		`{"topic":"x","tenant_id":"victim","device_id":"dev-1","msg_type":"t","username":"victim/dev-1","payload":{},"ts":1}`,
		`1,"ts":1`, `{}},"username":"victim/dev-1","payload":{}`, "1}\n{", `"\u0000\ud800"`, " [1e400] ", `{"a":1,"a":2}`, "\xff", "null", `"` + "\xc3\x28" + `"`,
	} {
		f.Add("acme", "dev-1", "telemetry", []byte(payload))
	}
	f.Add(`a","username":"victim/dev-1`, "d\x01\u2028\x7f", "<&>", []byte("1"))
	f.Add("\xff", "\ufffd", "\\", []byte("1"))
	f.Fuzz(func(t *testing.T, tenant, device, kind string, payload []byte) {
		topic := "tenant/" + tenant + "/device/" + device + "/" + kind
		if strings.ContainsAny(tenant+device+kind, "/\x00") || tenant == "" || device == "" || len(topic) > 300 {
			return
		}
		s := play(t, envelopes, attested(t))
		s.deliver(1, vouched(brokerID, noon, tenant+"/"+device, topic), string(payload))
		m := s.only()
		switch {
		case len(payload) > 1<<10:
			require.Equal(t, "payload_too_large", m.headers[HeaderReason])
			return
		case m.headers[HeaderReason] == "bad_payload":
			require.False(t, json.Valid(payload) && utf8.Valid(payload))
			require.Equal(t, string(payload), m.payload)
			return
		}
		require.Empty(t, m.headers[HeaderReason])
		require.True(t, utf8.ValidString(m.payload), "RFC 8259: JSON is UTF-8")
		keys, values := decodeObject(t, m.payload)
		require.Equal(t, []string{"topic", "tenant_id", "device_id", "msg_type", "username", "payload", "ts"}, keys)
		for i, want := range []string{topic, tenant, device, kind, tenant + "/" + device} {
			var got string
			require.NoError(t, json.Unmarshal(values[i], &got))
			// JSON cannot express invalid UTF-8: each invalid byte becomes U+FFFD.
			require.Equal(t, strings.Map(func(r rune) rune { return r }, want), got)
			require.True(t, utf8.Valid(values[i]))
		}
		require.Equal(t, string(bytes.Trim(payload, " \t\r\n")), string(values[5]))
		require.Equal(t, fmt.Sprint(noon/1e6), string(values[6]))
	})
}

// decodeObject reads a JSON text that is one object, with its keys in order. A key that occurs
// twice is returned twice.
func decodeObject(t *testing.T, text string) (keys []string, values []json.RawMessage) {
	d := json.NewDecoder(strings.NewReader(text))
	open, err := d.Token()
	require.NoError(t, err)
	require.Equal(t, json.Delim('{'), open)
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		keys, values = append(keys, key.(string)), append(values, value)
	}
	_, err = d.Token()
	require.NoError(t, err)
	_, err = d.Token()
	require.ErrorIs(t, err, io.EOF)
	return keys, values
}
