package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// Deleting a consumer does not end the connection.
func TestDeletedConsumer(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPostgres(t))
	r.look = 20 * time.Millisecond
	i := r.ingest("shadow.stream=", "commands.stream=")
	r.eventually(func() bool { ready, _ := i.Ready(); return ready }, func() any { return i.Problems() })
	require.NoError(t, r.js.DeleteConsumer(t.Context(), "TELEMETRY", "ingest-workers"))
	r.publish(telemetry("m1", `{}`))
	r.eventually(func() bool { return i.Tables()[0].Rows == 1 }, func() any { return i.Problems() })
}

// A missing permission is named when the server reports it.
func TestMissingPermissionToCreate(t *testing.T) {
	t.Parallel()
	server := peers.NATSServer(t, peers.NATSOptions{Config: `
		jetstream: enabled
		authorization { users: [
			{ user: all, password: all },
			{ user: some, password: some, permissions: { publish: { deny: ["$JS.API.CONSUMER.CREATE.>"] } } },
		] }
	`})
	r := &rig{t: t, database: createDatabase(t, sharedPostgres(t).url)}
	r.connect(strings.Replace(server.URL, "//", "//all:all@", 1))
	require.NoError(t, r.js.DeleteConsumer(t.Context(), "TELEMETRY", "ingest-workers"))
	r.nats = strings.Replace(server.URL, "//", "//some:some@", 1)
	i := r.ingest("shadow.stream=", "commands.stream=")
	const right = "$JS.API.CONSUMER.CREATE.TELEMETRY.ingest-workers"
	r.eventually(func() bool {
		for _, p := range i.Problems() {
			if p.Component == "consumer" && p.Problem == "the NATS user may not publish to "+right {
				return p.Advice == "allow the NATS user to publish to "+right+"; nats.conf contains all required permissions"
			}
		}
		return false
	}, func() any { return i.Problems() })
}

// The file is reread when NATS has been restarted with another password. Until then ingest
// reports the problem and its advice.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	port, store, file := testrun.Address(t).Port, t.TempDir(), filepath.Join(t.TempDir(), "password")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	with := func(password string) *embedded.Server {
		s, err := embedded.Open(embedded.Options{StoreDir: store, Port: port, Configure: func(o *natsd.Options) { o.Username, o.Password = "u", password }})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		return s
	}
	server := with("old")
	r := &rig{t: t, database: createDatabase(t, sharedPostgres(t).url)}
	r.connect(strings.Replace(server.URL(), "//", "//u:old@", 1))
	r.nats = server.URL()
	write("old")
	i := r.ingest("nats.user=u", "nats.password_file="+file, "shadow.stream=", "commands.stream=")
	r.eventually(func() bool { ready, _ := i.Ready(); return ready }, func() any { return i.Problems() })
	server.Close()
	server = with("new")
	r.eventually(func() bool {
		p := i.Problems()
		return len(p) == 1 && strings.HasPrefix(p[0].Problem, fmt.Sprintf("nats at %s refuses the credentials", server.URL())) &&
			strings.Contains(p[0].Advice, "a secret in a file is read again at each connect")
	}, func() any { return i.Problems() })
	write("new")
	r.eventually(func() bool { ready, _ := i.Ready(); return ready }, func() any { return i.Problems() })
}

func TestSilentServers(t *testing.T) {
	t.Parallel()
	c, err := config.LoadIngest(config.Sources{Flags: []config.Flag{
		{Path: "database.url", Value: createDatabase(t, sharedPostgres(t).url)}, {Path: "nats.url", Value: natstest.SilentServers(t)},
		{Path: "stop_timeout", Value: "1s"}, {Path: "admin.listen"},
	}}, Check)
	require.NoError(t, err)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		i, err := Open(Options{Config: c, Log: zerolog.Nop()})
		if assert.NoError(t, err) {
			assert.Eventually(t, func() bool { return len(i.database.problems()) == 0 }, testrun.Timeout, 10*time.Millisecond)
			i.Close()
		}
	}()
	select {
	case <-stopped:
	case <-time.After(testrun.Timeout):
		require.Fail(t, "start or stop waits for the attempt")
	}
}
