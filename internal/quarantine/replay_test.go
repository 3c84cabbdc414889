package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/subjects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with the streams of a bridge and the rejected messages.
type rig struct {
	t  *testing.T
	js natsjs.JetStream
	Options
}

// newRig creates streams with the shortest deduplication window that nats-server allows, so that
// exactly-once results cannot come from server-side deduplication.
func newRig(t *testing.T) *rig {
	t.Helper()
	server, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	for name, subject := range map[string]string{
		"TELEMETRY": "tenant.*.device.*.*", "SHADOW": "tenant.*.device.*.shadow.reported", "QUARANTINE": "quarantine.>",
	} {
		_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{
			Name: name, Subjects: []string{subject}, Duplicates: 100 * time.Millisecond, AllowDirect: true,
		})
		require.NoError(t, err)
	}
	var routes []subjects.Route
	for _, text := range []string{"tenant/{tenant}/device/{device}/{type}", "tenant/{tenant}/device/{device}/shadow/reported"} {
		p, err := subjects.ParsePattern(text)
		require.NoError(t, err)
		routes = append(routes, subjects.Route{Pattern: p})
	}
	set, err := subjects.NewSet(routes)
	require.NoError(t, err)
	return &rig{t: t, js: js, Options: Options{
		Reader:     Reader{JetStream: js, Stream: "QUARANTINE", Rules: &bridge.Rules{Topics: set}},
		MaxPayload: 1 << 10, Filter: Filter{Reasons: []verdict.Reason{verdict.RateLimited}},
	}}
}

// reject publishes a message to the quarantine as the bridge would.
func (r *rig) reject(reason, topic, id string, payload []byte, more map[string]string) {
	r.t.Helper()
	subject, err := subjects.FromTopic(topic)
	require.NoError(r.t, err)
	m := nats.NewMsg("quarantine." + reason + "." + subject)
	m.Data = payload
	m.Header.Set("Nats-Msg-Id", id)
	m.Header.Set("Bridge-Reason", reason)
	m.Header.Set("Bridge-Detail", "for a test")
	m.Header.Set("Mqtt-Topic", topic)
	for name, value := range more {
		m.Header.Set(name, value)
	}
	_, err = r.js.PublishMsg(r.t.Context(), m)
	require.NoError(r.t, err)
}

func telemetry(tenant, device string) string {
	return "tenant/" + tenant + "/device/" + device + "/telemetry"
}

func (r *rig) replay() *Report {
	r.t.Helper()
	report, err := Replay(r.t.Context(), r.Options)
	require.NoError(r.t, err)
	return report
}

// held returns the messages of a stream.
func (r *rig) held(stream string) []*natsjs.RawStreamMsg {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), stream)
	require.NoError(r.t, err)
	var all []*natsjs.RawStreamMsg
	err = read(r.t.Context(), s, natsjs.ConsumerConfig{}, s.CachedInfo().State.LastSeq, func(_ context.Context, m []*natsjs.RawStreamMsg) error {
		all = append(all, m...)
		return nil
	})
	require.NoError(r.t, err)
	return all
}

// ids counts the message ids of a stream.
func (r *rig) ids(stream string) map[string]int {
	ids := map[string]int{}
	for _, m := range r.held(stream) {
		ids[m.Header.Get("Nats-Msg-Id")]++
	}
	return ids
}

// outlastIDs returns once every id of before has left the deduplication window.
func (r *rig) outlastIDs(stream, subject string) {
	r.t.Helper()
	deadline := time.Now().Add(testrun.Timeout)
	for taken := 0; taken < 2; {
		ack, err := r.js.Publish(r.t.Context(), subject, nil, natsjs.WithMsgID("probe"))
		require.NoError(r.t, err)
		if !ack.Duplicate {
			taken++
		}
		require.True(r.t, time.Now().Before(deadline))
		time.Sleep(10 * time.Millisecond)
	}
	s, err := r.js.Stream(r.t.Context(), stream)
	require.NoError(r.t, err)
	require.NoError(r.t, s.Purge(r.t.Context(), natsjs.WithPurgeSubject(subject)))
}

func TestReplay(t *testing.T) {
	t.Parallel()
	t.Run("message is stored for its device and removed", testMessageIsStoredForItsDeviceAndRemoved)
	t.Run("only selected messages are replayed", testOnlySelectedMessagesAreReplayed)
	t.Run("rejected messages stay and are counted", testRejectedMessagesStayAndAreCounted)
	t.Run("message a worker gave up is restored unchanged", testMessageAWorkerGaveUpIsRestoredUnchanged)
	t.Run("message a worker just gave up stays", testMessageAWorkerJustGaveUpStays)
	t.Run("missing stream ends replay without loss", testMissingStreamEndsReplayWithoutLoss)
	t.Run("device name that ends in a space", testDeviceNameThatEndsInASpace)
}

func testMessageIsStoredForItsDeviceAndRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n = 1000
	want := map[string]int{}
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for i := range n {
		id := fmt.Sprintf("id-%d", i)
		want[id] = 1
		r.reject("rate_limited", telemetry("acme", fmt.Sprintf("dev-%d", i%7)), id, append(everyByte, id...), map[string]string{
			"Bridge-Cn": fmt.Sprintf("acme/dev-%d", i%7), "Bridge-Time": "2026-11-23T12:00:00.123Z", "Mqtt-Retained": "true",
		})
	}
	r.reject("rate_limited", "tenant/acme/device/dev-1/shadow/reported", "shadow", []byte("{}"), nil)
	r.reject("cn_mismatch", telemetry("acme", "dev-1"), "another reason", nil, nil)

	r.DryRun = true
	require.Equal(t, &Report{Selected: n + 1, Stored: n + 1, Staying: map[Stay]int{}}, r.replay())
	require.Empty(t, r.held("TELEMETRY"))
	require.Len(t, r.held("QUARANTINE"), n+2)

	r.DryRun = false
	require.Equal(t, &Report{Selected: n + 1, Stored: n + 1, Staying: map[Stay]int{}}, r.replay())
	require.Equal(t, want, r.ids("TELEMETRY"))
	require.Equal(t, map[string]int{"shadow": 1}, r.ids("SHADOW"))
	require.Equal(t, map[string]int{"another reason": 1}, r.ids("QUARANTINE"))
	for i, m := range r.held("TELEMETRY") {
		id := fmt.Sprintf("id-%d", i)
		require.Equal(t, fmt.Sprintf("tenant.acme.device.dev-%d.telemetry", i%7), m.Subject, "in the order of before")
		require.Equal(t, append(everyByte[:256:256], id...), m.Data)
		require.Equal(t, nats.Header{
			"Nats-Msg-Id": {id}, "Bridge-Cn": {fmt.Sprintf("acme/dev-%d", i%7)},
			"Bridge-Time": {"2026-11-23T12:00:00.123Z"}, "Mqtt-Retained": {"true"},
		}, m.Header)
	}

	r.outlastIDs("TELEMETRY", "tenant.probe.device.probe.probe")
	require.Equal(t, &Report{Staying: map[Stay]int{}}, r.replay(), "there is nothing left")
	require.Equal(t, want, r.ids("TELEMETRY"))
}

// Wherever a run is killed, the next one completes it. The states that a killed run can leave are
// created here one by one, with the ids outside the deduplication window.
func TestInterruptedReplay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stored, deleted int // of the claimed messages
	}{
		"before the first was published":        {0, 0},
		"while they were published":             {3, 0},
		"before the first was deleted":          {10, 0},
		"while they were deleted":               {10, 4},
		"before the claim was":                  {10, 10},
		"while some were published and deleted": {7, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			const n, claims = 25, 10
			want := map[string]int{}
			var list []claimed
			for i := range n {
				id := fmt.Sprintf("id-%d", i)
				want[id] = 1
				r.reject("rate_limited", telemetry("acme", fmt.Sprint(i%3)), id, []byte(id), nil)
				if i < claims {
					list = append(list, claimed{uint64(i + 1), fmt.Sprintf("tenant.acme.device.%d.telemetry", i%3), id})
				}
			}
			data, err := json.Marshal(list)
			require.NoError(t, err)
			_, err = r.js.Publish(t.Context(), claimSubject, data)
			require.NoError(t, err)
			for _, l := range list[:c.stored] {
				_, err = r.js.Publish(t.Context(), l.Subject, []byte(l.ID), natsjs.WithMsgID(l.ID))
				require.NoError(t, err)
			}
			q, err := r.js.Stream(t.Context(), "QUARANTINE")
			require.NoError(t, err)
			for _, l := range list[:c.deleted] {
				require.NoError(t, q.DeleteMsg(t.Context(), l.Sequence))
			}
			r.outlastIDs("TELEMETRY", "tenant.probe.device.probe.probe")
			report := r.replay()
			require.Equal(t, c.stored, report.Recovered)
			require.Equal(t, n-c.stored, report.Stored)
			require.Zero(t, report.Duplicates)
			require.Equal(t, want, r.ids("TELEMETRY"))
			require.Empty(t, r.held("QUARANTINE"))
		})
	}
}

func testOnlySelectedMessagesAreReplayed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i, name := range [][2]string{{"acme", "dev-1"}, {"acme", "dev-2"}, {"globex", "dev-1"}} {
		r.reject("rate_limited", telemetry(name[0], name[1]), fmt.Sprint(i), nil, nil)
		r.reject("refused", telemetry(name[0], name[1]), fmt.Sprint("refused ", i), nil, nil)
	}
	q, err := r.js.Stream(t.Context(), "QUARANTINE")
	require.NoError(t, err)
	third, err := q.GetMsg(t.Context(), 3)
	require.NoError(t, err)
	r.DryRun = true
	for name, c := range map[string]struct {
		choose func(*Options)
		want   int
	}{
		"a reason":             {func(*Options) {}, 3},
		"two reasons":          {func(o *Options) { o.Reasons = []verdict.Reason{verdict.RateLimited, verdict.Refused} }, 6},
		"a tenant":             {func(o *Options) { o.Tenant = "acme" }, 2},
		"a device":             {func(o *Options) { o.Device = "dev-1" }, 2},
		"a tenant's device":    {func(o *Options) { o.Tenant, o.Device = "acme", "dev-2" }, 1},
		"nobody":               {func(o *Options) { o.Tenant = "acm" }, 0},
		"since a time":         {func(o *Options) { o.Since = third.Time }, 2},
		"until a time":         {func(o *Options) { o.Until = third.Time }, 2},
		"between times":        {func(o *Options) { o.Since, o.Until = third.Time, third.Time }, 1},
		"a reason nobody gave": {func(o *Options) { o.Reasons = []verdict.Reason{verdict.BadTopic} }, 0},
	} {
		o := r.Options
		c.choose(&o)
		report, err := Replay(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, c.want, report.Selected, name)
	}
}

func testRejectedMessagesStayAndAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Reasons = []verdict.Reason{verdict.BadTopic, verdict.PayloadTooLarge, verdict.RateLimited}
	r.reject("payload_too_large", telemetry("acme", "dev-1"), "1", []byte("begin"), map[string]string{"Bridge-Size": "5000"})
	r.reject("payload_too_large", telemetry("acme", "dev-2"), "2", []byte("begin"), map[string]string{"Bridge-Size": "5000"})
	r.reject("bad_topic", "elsewhere", "3", nil, nil)
	r.reject("rate_limited", telemetry("acme", "dev-1"), "4", nil, nil)
	_, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "quarantine.bad_topic", Header: nats.Header{
		"Nats-Msg-Id": {"5"}, "Mqtt-Topic": {"tenant/acme/device/dev-1/found"},
	}})
	require.NoError(t, err)
	stream, err := r.js.Stream(t.Context(), "SHADOW")
	require.NoError(t, err)
	shadow := stream.CachedInfo().Config
	shadow.MaxMsgSize = 10
	_, err = r.js.UpdateStream(t.Context(), shadow)
	require.NoError(t, err)
	r.reject("rate_limited", "tenant/acme/device/dev-1/shadow/reported", "6", []byte("longer than the stream takes"), nil)

	report := r.replay()
	require.Equal(t, 6, report.Selected)
	require.Equal(t, 2, report.Stored)
	stays := map[verdict.Reason]int{}
	for s, n := range report.Staying {
		stays[s.Reason] = n
		require.NotEmpty(t, s.Detail)
	}
	require.Equal(t, map[verdict.Reason]int{verdict.PayloadTooLarge: 2, verdict.NotSubscribed: 1, verdict.Refused: 1}, stays)
	require.Equal(t, map[string]int{"4": 1, "5": 1}, r.ids("TELEMETRY"))
	left := r.ids("QUARANTINE")
	require.Equal(t, map[string]int{"1": 1, "2": 1, "3": 1, "6": 1}, left, "and no claim")
}

// A message that a worker dead-letters was in its stream before.
func testMessageAWorkerGaveUpIsRestoredUnchanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Reasons = []verdict.Reason{verdict.BadPayload}
	r.Rules.Formats = []bridge.Format{bridge.Envelope, bridge.Envelope}
	gaveUp := func(id string, more map[string]string) {
		more["Bridge-Msg-Id"] = id
		r.reject("bad_payload", telemetry("acme", "dev-1"), id+".bad_payload", []byte("not JSON"), more)
	}
	gaveUp("1", map[string]string{"Bridge-Cn": "acme/dev-1", "Bridge-Time": "2026-11-23T12:00:00.123456789Z"})
	gaveUp("2", map[string]string{"Bridge-Size": "5000"})
	r.outlastIDs("QUARANTINE", "quarantine.probe")

	r.Device = "dev-1"
	report := r.replay()
	require.Equal(t, 2, report.Selected)
	require.Equal(t, 1, report.Stored)
	require.Equal(t, map[Stay]int{{verdict.BadPayload, "the copy does not contain the whole payload of 5000 bytes"}: 1}, report.Staying)
	all := r.held("TELEMETRY")
	require.Len(t, all, 1)
	require.Equal(t, "tenant.acme.device.dev-1.telemetry", all[0].Subject)
	require.Equal(t, "not JSON", string(all[0].Data), "no envelope around what may have one")
	require.Equal(t, nats.Header{
		"Nats-Msg-Id": {"1.bad_payload"}, "Bridge-Msg-Id": {"1"}, "Bridge-Cn": {"acme/dev-1"},
		"Bridge-Time": {"2026-11-23T12:00:00.123456789Z"}, "Mqtt-Topic": {"tenant/acme/device/dev-1/telemetry"},
	}, all[0].Header)
}

// A worker's second copy has the id of the first: within the deduplication window the stream would
// drop it.
func testMessageAWorkerJustGaveUpStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Reasons = []verdict.Reason{verdict.BadPayload}
	q, err := r.js.Stream(t.Context(), "QUARANTINE")
	require.NoError(t, err)
	config := q.CachedInfo().Config
	config.Duplicates = time.Hour
	_, err = r.js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	r.reject("bad_payload", telemetry("acme", "dev-1"), "1.bad_payload", nil, map[string]string{"Bridge-Msg-Id": "1"})
	report := r.replay()
	require.Len(t, report.Staying, 1)
	for s := range report.Staying {
		require.Contains(t, s.Detail, "less than 1h0m0s ago")
	}
	require.Empty(t, r.held("TELEMETRY"))
	require.Len(t, r.held("QUARANTINE"), 1)
}

func testMissingStreamEndsReplayWithoutLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.reject("rate_limited", telemetry("acme", "dev-1"), "1", []byte("p"), nil)
	stream, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.NoError(t, r.js.DeleteStream(t.Context(), "TELEMETRY"))
	report, err := Replay(t.Context(), r.Options)
	require.ErrorContains(t, err, "tenant.acme.device.dev-1.telemetry")
	require.Zero(t, report.Stored)
	_, err = r.js.CreateStream(t.Context(), stream.CachedInfo().Config)
	require.NoError(t, err)
	require.Equal(t, 1, r.replay().Stored)
	require.Empty(t, r.held("QUARANTINE"))
}

func testDeviceNameThatEndsInASpace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var err error
	r.Rules.Attested, err = subjects.ParsePrefix("bridge/v1")
	require.NoError(t, err)
	r.reject("rate_limited", telemetry("acme", "dev "), "1", nil, map[string]string{"Bridge-Cn": "acme/dev%20"})
	r.reject("cn_mismatch", telemetry("acme", "dev "), "2", nil, map[string]string{"Bridge-Cn": "acme/dev%20"})
	r.Reasons = append(r.Reasons, verdict.CNMismatch)
	report := r.replay()
	require.Equal(t, 1, report.Stored)
	require.Equal(t, map[string]int{"1": 1}, r.ids("TELEMETRY"))
	require.Equal(t, map[string]int{"2": 1}, r.ids("QUARANTINE"))
}
