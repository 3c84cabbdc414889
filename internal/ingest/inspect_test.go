package ingest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

func TestMembersAreThoseOfTheObjectItself(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	require.NoError(t, inspect([]byte(" {\"ts\" : 1 ,\n\"a\":{\"ts\":2,\"b\":[{\"ts\":3}]},\"t\\u0073\":\"4\",\"l\":[1,{\"ts\":5}],\"n\":null,\"e\":{},\"q\\\"\":true}\r\n"),
		func(key, value []byte) { got[string(key)] += string(value) + ";" }))
	require.Equal(t, map[string]string{
		"ts": `1;"4";`, "a": `{"ts":2,"b":[{"ts":3}]};`, "l": `[1,{"ts":5}];`, "n": "null;", "e": "{};", `q"`: "true;",
	}, got)
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"0":                             "1970-01-01T00:00:00Z",
		"1700000000":                    "2023-11-14T22:13:20Z",
		"1700000000.25":                 "2023-11-14T22:13:20.25Z",
		"1.7e9":                         "2023-11-14T22:13:20Z",
		"1700000000123":                 "2023-11-14T22:13:20.123Z",
		"1700000000123.5":               "2023-11-14T22:13:20.1235Z",
		"100000000000":                  "1973-03-03T09:46:40Z",
		"99999999999":                   "", // the year 5138
		"4102444799":                    "2099-12-31T23:59:59Z",
		"4102444800":                    "",
		"1700000000000000":              "", // µs: the year 55840
		"9223372036854775807":           "",
		"-9223372036854775808":          "",
		"9223372036854775808":           "",
		"-1":                            "",
		"1e400":                         "",
		"true":                          "",
		`"2023-11-14T22:13:20Z"`:        "2023-11-14T22:13:20Z",
		`"2023-11-14T22:13:20.5+02:00"`: "2023-11-14T20:13:20.5Z",
		`"2023-11-14T22:13:20"`:         "",
		`"2023-11-14"`:                  "",
		`"1700000000"`:                  "",
		`"1969-12-31T23:59:59Z"`:        "",
		`"9999-12-31T23:59:59Z"`:        "",
		`"40000-01-01T00:00:00Z"`:       "",
		`"2023-11-14T22:13:20\u005a"`:   "2023-11-14T22:13:20Z",
		"[]":                            "",
		`{"seconds":1}`:                 "",
		strings.Repeat("9", 400) + ".0": "",
	} {
		got, err := parseTimestamp([]byte(value))
		if want == "" {
			require.Error(t, err, value)
			require.Less(t, len(err.Error()), 200)
			continue
		}
		require.NoError(t, err, value)
		require.Equal(t, want, got.UTC().Format(time.RFC3339Nano), value)
	}
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

// TestWhatIsInspectedIsWhatPostgreSQLTakes: nothing that passes here costs a batch
// its halving, and nothing that PostgreSQL would take is turned away, but for what
// is not an object.
func TestWhatIsInspectedIsWhatPostgreSQLTakes(t *testing.T) {
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
		} else if err != nil && err != errNotObject {
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
		require.True(t, first.Unix() >= minTime && first.Unix() < maxTime)
		again, err := parseTimestamp(value)
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}
