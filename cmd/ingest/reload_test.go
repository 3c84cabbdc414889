package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

const unreachablePeers = "nats: {url: 'nats://127.0.0.1:1', user: ingest, password_file: PASSWORD}\ndatabase: {url: 'postgres://x@127.0.0.1:1/x'}\nadmin: {listen: ''}\n"

// SIGHUP has the same effect as on the bridge, and does not end ingest.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, password := filepath.Join(dir, "ingest.yaml"), filepath.Join(dir, "password")
	base := strings.Replace(unreachablePeers, "PASSWORD", password, 1)
	write := func(name, text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o600)) }
	write(password, "old")
	write(file, base)
	cmd := peers.Command(t, "run", "--config", file)
	out := &peers.Log{}
	cmd.Stderr = out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	out.Await(t, 0, `"message":"nats not connected"`)

	write(password, "new")
	write(file, base+"log: {level: debug}\nbatch: {messages: 7}\n")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	out.Await(t, 0, `"keys":["batch.messages"],"time":`)
	out.Await(t, 0, `"changed":["nats.password","log.level"]`)
	require.Contains(t, out.String(), "changed keys need a restart")

	write(file, base+"batch: {messages: many}\n")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	out.Await(t, 0, "batch.messages")
	out.Await(t, 0, "configuration reload failed, keeping the current one")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), out)
	require.Contains(t, out.String(), `"message":"stopped"`)
}

// The output has the log's format, without other text.
func TestStartupFailureLog(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	got := peers.Run(t, "run", "--nats-url", "nats://127.0.0.1:1", "--database-url", "postgres://x@127.0.0.1:1/x", "--set", "admin.listen="+l.Addr().String())
	require.Equal(t, 1, got.Code)
	var lines []string
	for line := range strings.Lines(got.Err) {
		require.True(t, json.Valid([]byte(line)), line)
		lines = append(lines, line)
	}
	require.Len(t, lines, 2, "neither database nor NATS was connected to")
	require.Contains(t, lines[0], `"message":"starting"`)
	require.Contains(t, lines[1], `"message":"process failed"`)
	require.Contains(t, lines[1], "address already in use: set admin.listen to a free address")
}
