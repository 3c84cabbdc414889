package payload

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/peers"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	t.Run("only top-level members are reported", testOnlyTopLevelMembersAreReported)
	t.Run("accepts what PostgreSQL accepts", testAcceptsWhatPostgreSQLAccepts)
}

func testOnlyTopLevelMembersAreReported(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	require.NoError(t, inspect([]byte(" {\"ts\" : 1 ,\n\"a\":{\"ts\":2,\"b\":[{\"ts\":3}]},\"t\\u0073\":\"4\",\"l\":[1,{\"ts\":5}],\"n\":null,\"e\":{},\"q\\\"\":true}\r\n"),
		func(key, value []byte) { got[string(key)] += string(value) + ";" }))
	require.Equal(t, map[string]string{
		"ts": `1;"4";`, "a": `{"ts":2,"b":[{"ts":3}]};`, "l": `[1,{"ts":5}];`, "n": "null;", "e": "{};", `q"`: "true;",
	}, got)
}

// "" means that it is no time at all, "-" that it is one that no device's clock
// can have measured.
func TestTimestamps(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]string{
		"1700000000":                    "2023-11-14T22:13:20Z",
		"1700000000.25":                 "2023-11-14T22:13:20.25Z",
		"1.7e9":                         "2023-11-14T22:13:20Z",
		"1700000000123":                 "2023-11-14T22:13:20.123Z",
		"1700000000123.5":               "2023-11-14T22:13:20.1235Z",
		"1700000000123456":              "2023-11-14T22:13:20.123456Z",
		"1700000000123456.5":            "2023-11-14T22:13:20.123457Z",
		"1700000000123456789":           "2023-11-14T22:13:20.123456789Z",
		"1.7e18":                        "2023-11-14T22:13:20Z",
		"315532800":                     "1980-01-01T00:00:00Z",
		"315532799":                     "-",
		"0":                             "-",
		"100000000000":                  "-", // ms of 1973
		"99999999999":                   "-", // s of the year 5138
		"1769904300":                    "2026-02-01T00:05:00Z",
		"1769904301":                    "-", // over five minutes ahead
		"4000000000":                    "-",
		"9223372036854775807":           "-",
		"-9223372036854775808":          "-",
		"9223372036854775808":           "-",
		"-1":                            "-",
		"1e400":                         "-",
		"-1e400":                        "-",
		"true":                          "",
		`"2023-11-14T22:13:20Z"`:        "2023-11-14T22:13:20Z",
		`"2023-11-14t22:13:20z"`:        "2023-11-14T22:13:20Z",
		`"2023-11-14 22:13:20Z"`:        "2023-11-14T22:13:20Z",
		`"2023-11-14T22:13:20.5+02:00"`: "2023-11-14T20:13:20.5Z",
		`"2023-11-14t22:13:20.5-00:00"`: "2023-11-14T22:13:20.5Z",
		`"2016-12-31T23:59:60Z"`:        "2017-01-01T00:00:00Z",
		`"2016-12-31T23:59:60.5z"`:      "2017-01-01T00:00:00Z",
		`"2017-01-01T00:59:60+01:00"`:   "2017-01-01T00:00:00Z",
		`"2023-11-14T22:13:61Z"`:        "",
		`"2023-11-14T22:13:20"`:         "",
		`"2023-11-14"`:                  "",
		`"1700000000"`:                  "",
		`"1969-12-31T23:59:59Z"`:        "-",
		`"9999-12-31T23:59:59Z"`:        "-",
		`"40000-01-01T00:00:00Z"`:       "",
		`"2023-11-14T22:13:20\u005a"`:   "2023-11-14T22:13:20Z",
		`"2023-11-14T22:13:2\u00e4Z"`:   "",
		`"ääääääääääääääääääää"`: "",
		"[]":                            "",
		`{"seconds":1}`:                 "",
		strings.Repeat("9", 400) + ".0": "-",
	} {
		got, believed, err := Measured([]byte(value), at)
		if want == "" {
			require.Error(t, err, value)
			require.Less(t, len(err.Error()), 200)
			continue
		}
		require.NoError(t, err, value)
		if want == "-" {
			require.False(t, believed, value)
			require.Equal(t, at, got, value)
			continue
		}
		require.True(t, believed, value)
		require.Equal(t, want, got.UTC().Format(time.RFC3339Nano), value)
	}
}

func TestElements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		mode    config.PayloadMode
		want    []string
	}{
		{"\xef\xbb\xbf{\"a\":1}\x00\x00", config.PayloadObject, []string{`{"a":1}`}},
		{"21.5", config.PayloadObject, []string{"21.5"}}, // which inspect refuses
		{"21.5\r\n\x00", config.PayloadWrap, []string{`{"value":21.5}`}},
		{`[1,{"a":2}]`, config.PayloadWrap, []string{`{"value":[1,{"a":2}]}`}},
		{`[1,{"a":2},"x",[3],null]`, config.PayloadSplit, []string{`{"value":1}`, `{"a":2}`, `{"value":"x"}`, `{"value":[3]}`, `{"value":null}`}},
		{`[]`, config.PayloadSplit, nil},
		{`true`, config.PayloadSplit, []string{`{"value":true}`}},
		{`ON`, config.PayloadSplit, []string{`{"value":"ON"}`}},
		{`21.5 °C "x"`, config.PayloadWrap, []string{`{"value":"21.5 °C \"x\""}`}},
		{` {"a":1} `, config.PayloadSplit, []string{` {"a":1}`}},
		{`{"a":`, config.PayloadWrap, []string{`{"a":`}}, // meant to be an object: quarantine says why it is none
		{"", config.PayloadWrap, []string{""}},
	} {
		got, _, err := Elements([]byte(c.payload), c.mode)
		require.NoError(t, err, c.payload)
		var texts []string
		for _, o := range got {
			texts = append(texts, string(o))
		}
		require.Equal(t, c.want, texts, "%q", c.payload)
	}
	_, _, err := Elements([]byte("\xff\xfe"), config.PayloadWrap)
	require.ErrorContains(t, err, "not UTF-8")
}

// payloads are on the border of what jsonb takes.
func payloads() []string {
	return []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":"\\u0000"}`, `{"a":"\\\u0000"}`,
		`{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{"a":"\ude00"}`, `{"a":"\ud83dx"}`, `{"a":"\ud83d\n"}`, `{"a":"\ud83d\ud83d\ude00"}`, `{"a":"\uD83D\uDE00"}`,
		`{"a":1e131071}`, `{"a":1e131072}`, `{"a":12e131071}`, `{"a":0.1e131072}`, `{"a":1e-16383}`, `{"a":1e-16384}`, `{"a":1.5e-16383}`, `{"a":1e-131072}`,
		`{"a":0e131072}`, `{"a":-1e131072}`, `{"a":1E+5}`, `{"a":1e99999999999999999999}`,
		`{"a":` + strings.Repeat("9", 131072) + `}`, `{"a":` + strings.Repeat("9", 131073) + `}`,
		`{"a":0.` + strings.Repeat("1", 16383) + `}`, `{"a":0.` + strings.Repeat("1", 16384) + `}`,
		strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth),
		`{"a":"` + strings.Repeat("x", 100_000) + `"}`, `{"` + strings.Repeat("k", 100_000) + `":1}`,
		"{\"a\":\"\x7f\"}", "{\"a\":\"\xc2\x85\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xf5\x80\x80\x80\"}", "\xef\xbb\xbf{}",
		`{"a":1,"a":2}`, `{"":{"":[]}}`, `[]`, `1`, ``, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":+1}`, `{"a":NaN}`, `{'a':1}`, `{"a":1,}`,
	}
}

// Nothing that passes here costs a batch
// its halving, and nothing that PostgreSQL would take is turned away, but for what
// is not an object.
func testAcceptsWhatPostgreSQLAccepts(t *testing.T) {
	t.Parallel()
	db, err := pgx.Connect(t.Context(), peers.Postgres(t, "fsync=off").URL)
	require.NoError(t, err)
	defer db.Close(t.Context())
	for _, payload := range payloads() {
		// As text with a cast, in the simple protocol's way of the COPY.
		_, asked := db.Exec(t.Context(), "SELECT $1::text::jsonb", pgx.QueryExecModeSimpleProtocol, payload)
		err := inspect([]byte(payload), func(_, value []byte) { require.True(t, json.Valid(value), "%.60s", payload) })
		if asked != nil {
			require.Error(t, err, "%.60s: PostgreSQL: %v", payload, asked)
		} else if err != nil && err != ErrNotObject {
			require.NoError(t, err, "PostgreSQL takes %.60s", payload)
		}
	}
}

func FuzzInspect(f *testing.F) {
	for _, payload := range payloads() {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		members := map[string]json.RawMessage{}
		err := inspect(data, func(key, value []byte) { members[string(key)] = value })
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil {
			require.Error(t, err)
			return
		}
		if err != nil {
			return
		}
		require.Len(t, members, len(want))
		for key, value := range want {
			require.Equal(t, string(value), string(members[key]), key)
		}
	})
}

func FuzzTimestamp(f *testing.F) {
	f.Add([]byte("1700000000"))
	f.Add([]byte(`"2023-11-14T22:13:20Z"`))
	f.Fuzz(func(t *testing.T, value []byte) {
		if !json.Valid(value) || strings.TrimSpace(string(value)) != string(value) {
			return
		}
		first, err := parseTimestamp(value)
		if err != nil {
			return
		}
		again, err := parseTimestamp(value)
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}
