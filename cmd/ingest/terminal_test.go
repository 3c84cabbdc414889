package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

func TestTerminalBacklog(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("script"); err != nil {
		require.NotEqual(t, "1", os.Getenv("BRIDGE_REQUIRE_PEERS"), err)
		t.Skip(err)
	}
	const messages = 3000
	database := peers.Postgres(t, "fsync=off")
	server := peers.NATSServer(t, peers.NATSOptions{})
	fill(t, server.URL, messages)
	require.Zero(t, peers.Run(t, "migrate", "--database-url", database.URL).Code)
	db, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	// While the table is locked, ingest stays behind.
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE telemetry")
	require.NoError(t, err)

	ingest := peers.Command(t)
	// exec: otherwise dash stays as the parent process, is interrupted too, and then ends with 130
	// whatever the program's exit code is.
	cmd := exec.Command("script", "-qec", "exec "+ingest.Path+" --set shadow.stream= --set commands.stream= --set admin.listen=", "/dev/null")
	cmd.Dir, cmd.Env = ingest.Dir, append(ingest.Env, "DATABASE_URL="+database.URL, "NATS_URL="+server.URL)
	out := &peers.Log{}
	cmd.Stdout = out
	keyboard, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // its terminal ends with it
	out.Await(t, 0, fmt.Sprintf("catching up: %d messages behind", messages))
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool {
		var rows int
		return db.QueryRow(t.Context(), "SELECT count(*) FROM telemetry").Scan(&rows) == nil && rows == messages
	}, testrun.Timeout, 20*time.Millisecond, "%s", out)

	_, err = io.WriteString(keyboard, "\x03")
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.NoError(t, err, "%s", out)
	case <-time.After(testrun.Timeout):
		require.Fail(t, "it does not end", "%s", out)
	}
	// The log is not written into the line, but the terminal's echo may be.
	require.NotRegexp(t, `catching up[^\r\n]*\x1b\[K[^\r\n]`, strings.ReplaceAll(out.String(), "^C", ""))
	require.Contains(t, out.String(), "stopping, a second signal terminates immediately")
}

// fill creates the stream TELEMETRY with messages in it.
func fill(t *testing.T, url string, messages int) {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}})
	require.NoError(t, err)
	for n := range messages {
		_, err := js.PublishAsync("tenant.acme.device.dev-1.telemetry", []byte(`{"ts":1700000000}`), natsjs.WithMsgID(fmt.Sprint("m", n)))
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(testrun.Timeout):
		require.Fail(t, "not published")
	}
}
