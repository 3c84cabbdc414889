package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/testrun"

	"github.com/stretchr/testify/require"
)

// output is what a process writes, read while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

const nobody = "nats: {url: 'nats://127.0.0.1:1', user: ingest, password_file: PASSWORD}\ndatabase: {url: 'postgres://x@127.0.0.1:1/x'}\nadmin: {listen: ''}\n"

// SIGHUP means what it means to the bridge, and ends nothing.
func TestHangUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, password := filepath.Join(dir, "ingest.yaml"), filepath.Join(dir, "password")
	base := strings.Replace(nobody, "PASSWORD", password, 1)
	write := func(name, text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o600)) }
	write(password, "old")
	write(file, base)
	cmd := command(t, "run", "--config", file)
	out := &output{}
	cmd.Stderr = out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	await := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(out.String(), text) }, testrun.Timeout, 5*time.Millisecond, "%v", out)
	}
	await(`"message":"nats not connected"`)

	write(password, "new")
	write(file, base+"log: {level: debug}\nbatch: {messages: 7}\n")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	await(`"keys":["batch.messages"],"time":`)
	await(`"changed":["nats.password","log.level"]`)
	require.Contains(t, out.String(), "configuration differs in what needs a restart")

	write(file, base+"batch: {messages: many}\n")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	await("batch.messages")
	await("configuration not read again; nothing has changed")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), out)
	require.Contains(t, out.String(), `"message":"stopped"`)
}

// It has the log's format, with no text beside it.
func TestFailureIsLoggedOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	got := run(t, "run", "--nats-url", "nats://127.0.0.1:1", "--database-url", "postgres://x@127.0.0.1:1/x", "--set", "admin.listen="+l.Addr().String())
	require.Equal(t, 1, got.code)
	var lines []string
	for line := range strings.Lines(got.err) {
		require.True(t, json.Valid([]byte(line)), line)
		lines = append(lines, line)
	}
	require.Len(t, lines, 2, "neither database nor NATS was connected to")
	require.Contains(t, lines[0], `"message":"starting"`)
	require.Contains(t, lines[1], `"message":"failed"`)
	require.Contains(t, lines[1], "address already in use: set admin.listen to a free address")
}
