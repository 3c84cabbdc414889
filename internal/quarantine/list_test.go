package quarantine

import (
	"bytes"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
)

func (r *rig) reader() *Reader {
	return &r.Reader
}

func sequences(messages []Message) (all []uint64) {
	for _, m := range messages {
		all = append(all, m.Sequence)
	}
	return all
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	read := r.reader()
	list, err := read.List(ctx, Filter{}, 10)
	require.NoError(t, err)
	require.Empty(t, list)

	for i := range 3 * firstWindow {
		r.reject("rate_limited", telemetry("acme", fmt.Sprint("dev-", i%3)), fmt.Sprint("id-", i), []byte(`{"n":1}`), nil)
	}
	r.reject("cn_mismatch", telemetry("globex", "pump"), "other", []byte("\x1b[2J"), map[string]string{
		"Bridge-Detail": "the certificate is of\x1b[2J another", "Bridge-Cn": "acme/dev-1", "Bridge-Size": "9000", "Bridge-Time": "2026-11-23T12:00:00.000Z",
	})
	last := uint64(3*firstWindow + 1)
	stream, err := r.js.Stream(ctx, r.Stream)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(ctx, last-1))

	t.Run("newest first, over a gap", func(t *testing.T) {
		list, err := read.List(ctx, Filter{}, 3)
		require.NoError(t, err)
		require.Equal(t, []uint64{last, last - 2, last - 3}, sequences(list))
		require.Equal(t, "globex/pump", list[0].Tenant+"/"+list[0].Device)
		require.Equal(t, 9000, list[0].Size)
		require.Equal(t, 4, list[0].Kept)
		require.Nil(t, list[0].Payload)
		latest, err := (&Source{r.js.Conn(), "$JS.API", r.Stream, r.Rules}).Latest(ctx, 3)
		require.NoError(t, err)
		require.Equal(t, list, latest, "what the bridge reads without a consumer")
	})
	t.Run("windows back to the beginning", func(t *testing.T) {
		list, err := read.List(ctx, Filter{Device: "dev-0"}, 10_000)
		require.NoError(t, err)
		require.Len(t, list, firstWindow)
		require.EqualValues(t, 1, list[len(list)-1].Sequence)
		list, err = read.List(ctx, Filter{Reasons: []verdict.Reason{verdict.CNMismatch}}, 5)
		require.NoError(t, err)
		require.Equal(t, []uint64{last}, sequences(list))
		list, err = read.List(ctx, Filter{Since: time.Now().Add(time.Hour)}, 5)
		require.NoError(t, err)
		require.Empty(t, list)
	})
	t.Run("stats", func(t *testing.T) {
		s, err := read.Stats(ctx, Filter{}, 2)
		require.NoError(t, err)
		require.Equal(t, 3*firstWindow, s.Messages)
		require.Equal(t, "rate_limited", s.Reasons[0].Reason)
		require.Equal(t, 3, s.Reasons[0].Devices)
		require.Len(t, s.Devices, 2)
		require.Equal(t, 2, s.OtherDevices)
		var out bytes.Buffer
		require.NoError(t, s.Print(&out))
		require.Contains(t, out.String(), "and 2 other devices")
		require.NotContains(t, out.String(), "\x1b")
	})
	t.Run("one message", func(t *testing.T) {
		m, err := read.Get(ctx, last)
		require.NoError(t, err)
		require.Equal(t, "\x1b[2J", string(m.Payload))
		var out bytes.Buffer
		require.NoError(t, m.Print(&out, ""))
		require.NotContains(t, out.String(), "\x1b")
		require.Contains(t, out.String(), "9000 bytes, the first 4 are kept")
		require.Contains(t, out.String(), "cannot be replayed: only the first 4 bytes were kept")
		require.Contains(t, out.String(), "1b 5b 32 4a")
		_, err = read.Get(ctx, last-1)
		require.ErrorIs(t, err, ErrNoMessage)
	})
	t.Run("no consumer is left", func(t *testing.T) {
		names := stream.ConsumerNames(ctx)
		for name := range names.Name() {
			t.Error("left: ", name)
		}
		require.NoError(t, names.Err())
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	t.Run("claims are not listed", testClaimsAreNotListed)
	t.Run("foreign message is listed", testForeignMessageIsListed)
}

// A replay in progress keeps a note in the quarantine.
func testClaimsAreNotListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.js.Publish(t.Context(), claimSubject, []byte("[]"))
	require.NoError(t, err)
	list, err := r.reader().List(t.Context(), Filter{}, 5)
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = r.reader().Get(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoMessage)
	latest, err := (&Source{r.js.Conn(), "$JS.API", r.Stream, r.Rules}).Latest(t.Context(), 5)
	require.NoError(t, err)
	require.Empty(t, latest)
}

// Any user with the permission may publish to the quarantine.
func testForeignMessageIsListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.js.PublishMsg(t.Context(), nats.NewMsg("quarantine.x"))
	require.NoError(t, err)
	list, err := r.reader().List(t.Context(), Filter{}, 5)
	require.NoError(t, err)
	require.Len(t, list, 1)
	var out bytes.Buffer
	require.NoError(t, PrintList(&out, list))
	latest, err := (&Source{r.js.Conn(), "$JS.API", r.Stream, r.Rules}).Latest(t.Context(), 5)
	require.NoError(t, err)
	require.Len(t, latest, 1)
}

func TestReplayCommand(t *testing.T) {
	t.Parallel()
	m := Message{Reason: "rate_limited", Tenant: "-acme", Device: "a b", Size: 5, Kept: 5}
	require.Equal(t, "mqtt-nats-bridge quarantine replay --reason=rate_limited --tenant='-acme' --device='a b' -c bridge.yaml", m.Replay("bridge.yaml"))
	m.Tenant, m.Device = "", ""
	require.Equal(t, "mqtt-nats-bridge quarantine replay --reason=rate_limited", m.Replay(""), "a topic that matches no pattern")
	m.Kept = 4
	require.Equal(t, "cannot be replayed: only the first 4 bytes were kept", m.Replay("bridge.yaml"))
}

// A command copied from the page passes the device's name as one argument, whatever characters it
// contains.
func TestQuote(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	require.Equal(t, "dev-1", quote("dev-1"))
	for _, name := range []string{
		"", "-x", "a b", "it's", "$(reboot)", "`reboot`", "a\nreboot\n", "\x1b[2J", "ü", "a\\b", "!!", "~", "*", "<img>", "\xff\xfe", "a\u202eb", "'\n'", `\'`, "=x", "a;b",
	} {
		out, err := exec.Command(bash, "-c", "printf %s "+quote(name)).Output()
		require.NoError(t, err, name)
		require.Equal(t, name, string(out))
		for _, r := range quote(name) {
			require.False(t, r < ' ', "%q has a control character", quote(name))
		}
	}
}
