package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/embedded"
)

// The answers of a real server, one of each shape.
func TestPubAckServerReplies(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"", "hub"} {
		t.Run("domain "+domain, func(t *testing.T) {
			t.Parallel()
			srv, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Domain: domain})
			require.NoError(t, err)
			t.Cleanup(srv.Close)
			nc, err := nats.Connect(srv.URL())
			require.NoError(t, err)
			t.Cleanup(nc.Close)
			js, err := natsjs.New(nc)
			require.NoError(t, err)
			for _, c := range []natsjs.StreamConfig{
				{Name: "T", Subjects: []string{"t.>"}, MaxMsgSize: 100},
				{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: natsjs.DiscardNew},
				{Name: "ANY", Subjects: []string{"any"}},
				{Name: "SEALED", Subjects: []string{"sealed"}},
				{Name: "COUNT", Subjects: []string{"count"}, AllowMsgCounter: true},
			} {
				c.Storage = natsjs.MemoryStorage
				_, err = js.CreateStream(t.Context(), c)
				require.NoError(t, err)
			}
			_, err = js.UpdateStream(t.Context(), natsjs.StreamConfig{
				Name: "SEALED", Subjects: []string{"sealed"}, Storage: natsjs.MemoryStorage, Sealed: true,
			})
			require.NoError(t, err)
			for _, c := range []struct {
				name      string
				message   nats.Msg
				fast      bool // parsed without a JSON decoder
				duplicate bool
				class     Class
				code      int // JetStream's error code; 0: stored
				is        error
			}{
				{name: "stored", message: nats.Msg{Subject: "t.x", Header: nats.Header{"Nats-Msg-Id": {"1"}}}, fast: true},
				{name: "duplicate", message: nats.Msg{Subject: "t.x", Header: nats.Header{"Nats-Msg-Id": {"1"}}}, fast: true, duplicate: true},
				{name: "with a value", message: nats.Msg{Subject: "count", Header: nats.Header{"Nats-Incr": {"1"}}}},
				{name: "too large", message: nats.Msg{Subject: "t.x", Data: make([]byte, 200)}, class: Reject, code: 10054},
				{name: "too long a header", message: nats.Msg{Subject: "any", Header: nats.Header{"X": {strings.Repeat("x", 1<<16)}}}, class: Reject, code: 10097},
				{name: "another stream expected", message: nats.Msg{Subject: "t.x", Header: nats.Header{"Nats-Expected-Stream": {"Y"}}}, class: Stop, code: 10060},
				{name: "bad TTL", message: nats.Msg{Subject: "t.x", Header: nats.Header{"Nats-TTL": {"1h"}}}, class: Reject, code: 10166},
				{name: "room for one", message: nats.Msg{Subject: "full"}, fast: true},
				{name: "full", message: nats.Msg{Subject: "full"}, class: Retry, code: 10077},
				{name: "sealed", message: nats.Msg{Subject: "sealed"}, class: Stop, code: 10109},
				{name: "no stream", message: nats.Msg{Subject: "nobody"}, class: Retry, is: ErrNoResponders},
			} {
				answer := request(t, nc, &c.message)
				_, fast := scanPubAck(answer.Data)
				require.Equal(t, c.fast, fast, "%s: %s", c.name, answer.Data)
				duplicate, err := parsePubAck(answer)
				require.Equal(t, c.duplicate, duplicate, c.name)
				if c.code == 0 && c.is == nil {
					require.NoError(t, err, c.name)
					continue
				}
				require.Error(t, err, "%s: %s", c.name, answer.Data)
				require.Equal(t, c.class, Classify(err), "%s: %v", c.name, err)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
					continue
				}
				var api *APIError
				require.ErrorAs(t, err, &api, c.name)
				require.Equal(t, c.code, api.ErrCode, c.name)
				require.NotEmpty(t, api.Description)
			}
		})
	}
}

// request publishes and returns the raw answer; nats.go's Request would turn a 503 into an error.
func request(t *testing.T, nc *nats.Conn, m *nats.Msg) *nats.Msg {
	t.Helper()
	m.Reply = nc.NewInbox()
	sub, err := nc.SubscribeSync(m.Reply)
	require.NoError(t, err)
	defer sub.Unsubscribe()
	require.NoError(t, nc.PublishMsg(m))
	answer, err := sub.NextMsg(20 * time.Second)
	if errors.Is(err, nats.ErrNoResponders) {
		return &nats.Msg{Header: nats.Header{"Status": {"503"}}} // NextMsg would hide it
	}
	require.NoError(t, err)
	return answer
}

// The publisher's own inbox is an asynchronous subscription, which hides nothing.
func TestPubAckNoResponders(t *testing.T) {
	t.Parallel()
	srv, err := embedded.Open(embedded.Options{StoreDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(srv.Close)
	nc, err := nats.Connect(srv.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	answers := make(chan *nats.Msg, 1)
	_, err = nc.Subscribe("in.*", func(m *nats.Msg) { answers <- m })
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("nobody", "in.1", nil))
	m := <-answers
	require.Empty(t, m.Data)
	_, err = parsePubAck(m)
	require.ErrorIs(t, err, ErrNoResponders)
}

func TestPubAckInvalidReplies(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", "x", "{", "{}", "null", "[]", "1", `"x"`, `{"stream":""}`, `{"stream":"T"}`, `{"stream":"T","seq":0}`,
		`{"seq":1}`, `{"stream":"T","seq":-1}`, `{"stream":"T","seq":18446744073709551616}`, "{\"stream\":\"a\nb\",\"seq\":1}"} {
		duplicate, err := parsePubAck(&nats.Msg{Data: []byte(text)})
		require.ErrorIs(t, err, ErrBadAck, text)
		require.False(t, duplicate)
		require.Equal(t, Retry, Classify(err))
	}
	_, err := parsePubAck(&nats.Msg{Header: nats.Header{"Status": {"408"}}})
	require.ErrorIs(t, err, ErrBadAck)
	_, err = parsePubAck(&nats.Msg{Data: []byte(`{"error":{},"stream":"T","seq":1}`)})
	require.Error(t, err, "an error is looked for first")
	duplicate, err := parsePubAck(&nats.Msg{Data: []byte(`{"stream":"T","seq":18446744073709551615,"duplicate":true}`)})
	require.NoError(t, err)
	require.True(t, duplicate)
}

// FuzzPubAck compares the parser with encoding/json.
func FuzzPubAck(f *testing.F) {
	for _, text := range []string{
		`{"stream":"T","seq":1}`, `{"stream":"T","domain":"hub","seq":12,"duplicate": true}`, `{"stream":"T","seq":1,"duplicate":true}`,
		`{"stream":"T","seq":1,"val":"5"}`, `{"error":{"code":503,"err_code":10077,"description":"x"},"stream":"T","seq":0}`,
		`{"stream":"\u0041","seq":1}`, `{"stream":"T","seq":01}`, `{"stream":"T","seq":1}}`, `{"stream":"T","seq":99999999999999999999}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		duplicate, err := parsePubAck(&nats.Msg{Data: data})
		var ack struct {
			Error     *APIError `json:"error"`
			Stream    string    `json:"stream"`
			Sequence  uint64    `json:"seq"`
			Duplicate bool      `json:"duplicate"`
		}
		bad := json.Unmarshal(data, &ack)
		stored := bad == nil && ack.Error == nil && ack.Stream != "" && ack.Sequence != 0
		require.Equal(t, stored, err == nil, "%s: %v", data, err)
		require.Equal(t, stored && ack.Duplicate, duplicate)
		if err != nil {
			require.NotEmpty(t, fmt.Sprint(err))
			require.Equal(t, bad == nil && ack.Error != nil, !errors.Is(err, ErrBadAck))
		}
	})
}

func BenchmarkPubAck(b *testing.B) {
	m := &nats.Msg{Data: []byte(`{"stream":"TELEMETRY","seq":123456789,"duplicate": true}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parsePubAck(m); err != nil {
			b.Fatal(err)
		}
	}
}
