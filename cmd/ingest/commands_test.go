package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, args := range []string{"", "run", "migrate", "check", "bench", "healthcheck", "top", "version"} {
		got := peers.Run(t, append(strings.Fields(args), "--help")...)
		require.Zero(t, got.Code)
		require.Empty(t, got.Err)
		all.WriteString("$ ingest " + strings.TrimSpace(args+" --help") + "\n" + got.Out + "\n")
	}
	golden.Require(t, "testdata/help.golden", all.String())
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	const nowhere = "--database-url=postgres://postgres@127.0.0.1:1/x"
	for name, test := range map[string]struct {
		args []string
		code int
		err  string
	}{
		"version":                  {[]string{"version"}, 0, ""},
		"check":                    {[]string{"check"}, 0, ""},
		"unknown command":          {[]string{"chekc"}, 2, "unexpected argument chekc"},
		"--set without a value":    {[]string{"check", "--set", "batch.messages"}, 2, "expected KEY=VALUE"},
		"--set of no key":          {[]string{"check", "--set", "batch.mesages=1"}, 2, "did you mean batch.messages?"},
		"a pattern without {type}": {[]string{"check", "--set", "telemetry.topic=t/{tenant}/{device}"}, 2, "lacks {type}"},
		"a database parameter":     {[]string{"check", "--database-url", "postgres://h/x?sslmode=maybe"}, 2, "sslmode=verify-full: sslmode is invalid"},
		"several errors":           {[]string{"run", "--set", "batch.flush=1", "--set", "telemetry.workers=0"}, 2, "2 errors in the configuration"},
		"healthcheck, unreachable": {[]string{"healthcheck", "--set", "admin.listen=127.0.0.1:1"}, 1, "check readiness of ingest"},
		"healthcheck, no endpoint": {[]string{"healthcheck", "--set", "admin.listen="}, 2, "is empty"},
		"migrate, unreachable":     {[]string{"migrate", nowhere}, 1, "connection refused"},
		"bench, unreachable":       {[]string{"bench", nowhere}, 1, "connection refused"},
		"no such file":             {[]string{"check", "-c", "/nowhere/ingest.yaml"}, 2, "1 error in the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := peers.Run(t, test.args...)
			require.Equal(t, test.code, got.Code, "%s%s", got.Out, got.Err)
			require.Contains(t, got.Err, test.err)
			if test.err == "" {
				require.Empty(t, got.Err)
			}
		})
	}
}

func TestSecretRedaction(t *testing.T) {
	t.Parallel()
	t.Run("check shows sources but no secrets", testCheckShowsSourcesButNoSecrets)
	t.Run("errors contain no database password", testErrorsContainNoDatabasePassword)
}

func testCheckShowsSourcesButNoSecrets(t *testing.T) {
	t.Parallel()
	cmd := peers.Command(t, "check", "-c", "ingest.yaml", "--set", "batch.messages=1000")
	cmd.Env = append(cmd.Env, "DATABASE_URL=postgres://u:hunter2@db/x?password=hunter3", "INGEST_NATS_USER=ingest", "INGEST_NATS_PASSWORD=hunter4")
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "ingest.yaml"), []byte("\nshadow: {stream: ''}\n"), 0o600))
	got := peers.Finish(t, cmd)
	require.Zero(t, got.Code, got.Err)
	require.NotContains(t, got.Out+got.Err, "hunter")
	for _, line := range []string{
		"database.url: postgres://u@db/x  # DATABASE_URL\n", "nats.password: (redacted)  # INGEST_NATS_PASSWORD\n",
		"shadow.stream: \"\"  # ingest.yaml:2\n", "batch.messages: 1000  # --set\n",
	} {
		require.Contains(t, got.Out, line)
	}
}

// The driver's errors do not contain it either.
func testErrorsContainNoDatabasePassword(t *testing.T) {
	t.Parallel()
	got := peers.Run(t, "migrate", "--database-url=postgres://postgres:hunter2@127.0.0.1:1/x")
	require.Equal(t, 1, got.Code)
	require.NotContains(t, got.Out+got.Err, "hunter2")
	got = peers.Run(t, "check", "--database-url=postgres://u:hunter2@h/x?sslmode=maybe")
	require.Equal(t, 2, got.Code)
	require.NotContains(t, got.Out+got.Err, "hunter2")
}

func TestIngestLifecycle(t *testing.T) {
	t.Parallel()
	database := peers.Postgres(t, "fsync=off")
	nats := peers.NATSServer(t, peers.NATSOptions{})
	migrated := peers.Run(t, "migrate", "--database-url", database.URL)
	require.Zero(t, migrated.Code, migrated.Err)
	require.Equal(t, "migrated 00001_tables.sql\nmigrated 00002_order_within_a_millisecond.sql\nmigrated 00003_believed_clock.sql\n", migrated.Out)
	again := peers.Run(t, "migrate", "--database-url", database.URL)
	require.Zero(t, again.Code)
	require.Equal(t, "the tables are up to date\n", again.Out)

	listen := testrun.Address(t).String()
	i := peers.Ingest(t, []string{"DATABASE_URL=" + database.URL, "NATS_URL=" + nats.URL, "INGEST_ADMIN_LISTEN=" + listen, "INGEST_LOG_FORMAT=json"})
	// The bridge has not created its streams yet, so ingest is not ready.
	i.Log().Await(t, 0, "stream TELEMETRY does not exist")
	got := peers.Run(t, "healthcheck", "--set", "admin.listen="+listen)
	require.Equal(t, 1, got.Code, got.Out)

	// The endpoint already answers before that. Starting a bridge creates the streams.
	bridge := peers.Bridge(t, peers.BridgeOptions{Env: []string{"NATS_URL=" + nats.URL, "MQTT_URL=mqtt://127.0.0.1:1", "BRIDGE_ADMIN_LISTEN=", "BRIDGE_STREAMS_TELEMETRY_MAX_BYTES=1GiB"}})
	bridge.Log().Await(t, 0, "stream or consumer created")
	require.Eventually(t, func() bool {
		got = peers.Run(t, "healthcheck", "--set", "admin.listen="+listen)
		return got.Code == 0
	}, testrun.Timeout, 50*time.Millisecond)
	i.Signal(syscall.SIGTERM)
	require.Zero(t, i.Wait())
	require.Contains(t, i.Log().String(), `"message":"stopped"`)

	db, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	defer db.Close(t.Context())
	var n int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM telemetry").Scan(&n))
}

// The commands of this program that docs/runbook.md names exist.
func TestRunbookCommands(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/runbook.md")
	require.NoError(t, err)
	named := regexp.MustCompile("(?m)(?:`|^)ingest((?: [a-z]+)+)").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		args := strings.Fields(m[1])
		got := peers.Run(t, append(args, "--help")...)
		require.Zero(t, got.Code, m[0])
		require.Contains(t, got.Out, "Usage: ingest "+strings.Join(args, " "), m[0])
	}
}
