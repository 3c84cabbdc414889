package demo

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	t.Parallel()
	t.Run("messages are accounted for and files removed", testMessagesAreAccountedForAndFilesRemoved)
	t.Run("database rows are accounted for", testDatabaseRowsAreAccountedFor)
	t.Run("interrupt prints summary", testInterruptPrintsSummary)
	t.Run("run too short for its offences fails", testRunTooShortForItsOffencesFails)
	t.Run("interrupt during start leaves no files", testInterruptDuringStartLeavesNoFiles)
	t.Run("visitor messages are accounted for", testVisitorMessagesAreAccountedFor)
	t.Run("message unknown to bridge is found", testMessageUnknownToBridgeIsFound)
}

func testMessagesAreAccountedForAndFilesRemoved(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	temp := t.TempDir()
	err := Run(context.Background(), Options{Out: &out, For: 3 * time.Second, temp: temp})
	require.NoError(t, err, out.String())
	text := out.String()
	for _, section := range []string{
		"35 devices -mTLS-> 127.0.0.1:",
		"  nats -s nats://127.0.0.1:",
		" stream ls\n",
		" sub 'tenant.acme.>'\n",
		"In a browser: http://127.0.0.1:",
		" stream view QUARANTINE\n",
		"  curl http://127.0.0.1:",
		"  mosquitto_pub -h 127.0.0.1 -p ",
		"\n  1s received ",
		"\nSummary after ",
		"received = stored + quarantined + dropped\n",
	} {
		require.Contains(t, text, section)
	}
	require.NotContains(t, text, "FAILED")
	require.NotContains(t, text, "WRN", "a quiet bridge has nothing to warn of")
	require.NotContains(t, text, "\x1b", "this is no terminal")
	for _, reason := range []verdict.Reason{
		verdict.BadTopic, verdict.PayloadTooLarge, verdict.CNMissing, verdict.CNMismatch, verdict.RateLimited,
	} {
		require.Regexp(t, `(?m)^  `+reason.String()+` +[1-9]\d* +[1-9]`, text)
	}
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func testDatabaseRowsAreAccountedFor(t *testing.T) {
	t.Parallel()
	postgres := peers.Postgres(t, "fsync=off")
	var out bytes.Buffer
	err := Run(context.Background(), Options{Out: &out, For: 3 * time.Second, temp: t.TempDir(), DatabaseURL: postgres.URL})
	require.NoError(t, err, out.String())
	text := out.String()
	require.Contains(t, text, "-> ingest -> PostgreSQL\n")
	require.Contains(t, text, "  psql 'postgres://postgres@"+postgres.Addr)
	require.Regexp(t, `in flight 0?\d*, rows \d+, lag \d+`, text)
	require.Regexp(t, `in the database +[1-9]\d*   rows of telemetry; [1-9]\d* states, [1-9]\d* commands`, text)
	require.Contains(t, text, "ok      the database contains each telemetry message once\n")
	require.NotContains(t, text, "WRN")

	db, err := pgx.Connect(t.Context(), postgres.URL)
	require.NoError(t, err)
	defer db.Close(t.Context())
	left := -1
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mqtt_nats_demo%'").Scan(&left))
	require.Zero(t, left, "the schema stayed behind")
}

// signal closes seen once text has been written.
type signal struct {
	bytes.Buffer
	text string
	seen chan struct{}
}

func (s *signal) Write(p []byte) (int, error) {
	if s.seen != nil && strings.Contains(string(p), s.text) {
		close(s.seen)
		s.seen = nil
	}
	return s.Buffer.Write(p)
}

func testInterruptPrintsSummary(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan struct{})
	out := &signal{text: "  2s received", seen: seen}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: out, Devices: 3, temp: t.TempDir()}) }()
	<-seen
	cancel()
	require.NoError(t, <-ended)
	require.Contains(t, out.String(), "\nSummary after ")
}

func testRunTooShortForItsOffencesFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(context.Background(), Options{Out: &out, For: time.Nanosecond, temp: t.TempDir()})
	require.ErrorIs(t, err, ErrUnaccounted)
	require.ErrorContains(t, err, "no rate_limited")
	require.Contains(t, out.String(), "FAILED  the quarantine contains messages for every provoked reason: ")
}

func testInterruptDuringStartLeavesNoFiles(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	temp := t.TempDir()
	require.ErrorIs(t, Run(ctx, Options{Out: io.Discard, temp: temp}), context.Canceled)
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestOptionErrors(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{},
		{Out: io.Discard, Devices: 2},
		{Out: io.Discard, Devices: 10_001},
		{Out: io.Discard, Rate: -1},
		{Out: io.Discard, Rate: 1001},
		{Out: io.Discard, For: -time.Second},
	} {
		require.ErrorContains(t, Run(t.Context(), o), "start demo: ")
	}
}

// stage returns a rig with an idle fleet.
func stage(t *testing.T, roles ...role) (*rig, *crew) {
	t.Helper()
	o := Options{Out: io.Discard}
	require.NoError(t, o.complete())
	r, err := newRig(t.Context(), o, t.TempDir(), zerolog.New(zerolog.NewTestWriter(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.close()) })
	f, err := newCrew(t.Context(), roles, r.broker.TLSURL(), r.authority)
	require.NoError(t, err)
	t.Cleanup(f.Disconnect)
	return r, f
}

func testVisitorMessagesAreAccountedFor(t *testing.T) {
	t.Parallel()
	topics := []string{
		topicOf(visitor, "telemetry"),
		topicOf("globex/other", "telemetry"), // refused but received
		topicOf(visitor, "a/b/c"),            // attested, but matches no topic pattern
		"elsewhere",                          // not even attested
	}
	r, f := stage(t)
	certificate, err := r.authority.ClientConfig(visitor)
	require.NoError(t, err)
	d := fleet.New(fleet.Options{
		Address: strings.TrimPrefix(r.broker.TLSURL(), "ssl://"), TLS: certificate,
		Connect: wire.Connect{ClientID: "visitor"}, Count: len(topics),
		Message: func(n int) (string, []byte) { return topics[n], []byte("{}") },
	})
	require.NoError(t, d.Connect(t.Context()))
	t.Cleanup(d.Disconnect)
	require.NoError(t, d.Run(t.Context()))
	a := settle(t.Context(), r, f, nil)
	require.EqualValues(t, 3, a.Visits)
	require.NoError(t, conclude(a.checks()))
	require.EqualValues(t, 1, a.Bridge.Stored)
	require.EqualValues(t, 1, a.Bridge.Quarantined[verdict.CNMismatch])
	require.EqualValues(t, 1, a.Bridge.Quarantined[verdict.BadTopic])
}

func testMessageUnknownToBridgeIsFound(t *testing.T) {
	t.Parallel()
	r, f := stage(t)
	_, err := r.js.Publish(t.Context(), "tenant.acme.device.ghost.telemetry", nil)
	require.NoError(t, err)
	err = conclude(settle(t.Context(), r, f, nil).checks())
	require.ErrorIs(t, err, ErrUnaccounted)
	require.ErrorContains(t, err, "the streams contain the messages that the bridge stored (stored 0, in the streams 1)")
}
