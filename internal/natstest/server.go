// Package natstest contains helpers for tests with a NATS server: servers that stop with the test,
// certificates, credentials, and a settler that passes results to the test.
package natstest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

// StartServer starts a server that stops with the test. Its port stays reserved until then: after
// Close no other process can listen there, but the test can start another server on it.
func StartServer(t *testing.T, configure func(*natsd.Options)) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: testrun.Address(t).Port, Configure: configure})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// JetStream returns the JetStream API on a new connection.
func JetStream(t *testing.T, s *embedded.Server) natsjs.JetStream {
	t.Helper()
	nc, err := conn.Connect(conn.Options{URL: s.URL(), Name: t.Name()})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

// Context returns a context that ends after [testrun.Timeout].
func Context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testrun.Timeout)
	t.Cleanup(cancel)
	return ctx
}

// Receive receives one value, or fails the test after a timeout.
func Receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(testrun.Timeout):
		require.FailNow(t, "nothing received", what)
	}
	panic("unreachable")
}

// RequireStored connects, publishes a message and requires the PubAck.
func RequireStored(t *testing.T, o conn.Options) {
	t.Helper()
	up := make(chan struct{}, 1)
	failed := make(chan conn.Problem, 10)
	o.Hooks.Connected = func(*nats.Conn) { up <- struct{}{} }
	o.Hooks.ConnectFailed = func(p conn.Problem) { failed <- p }
	nc, err := conn.Connect(o)
	require.NoError(t, err)
	defer nc.Close()
	select {
	case <-up:
	case p := <-failed:
		require.NoError(t, p)
	}
	js, err := o.JetStream(nc)
	require.NoError(t, err)
	ctx := Context(t)
	_, err = js.CreateOrUpdateStream(ctx, natsjs.StreamConfig{Name: "T", Subjects: []string{"t"}, Storage: natsjs.MemoryStorage})
	require.NoError(t, err)
	_, err = js.Publish(ctx, "t", nil)
	require.NoError(t, err)
}

// WriteFile writes a file, creates its directory and returns path.
func WriteFile(t *testing.T, path string, content []byte) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}
