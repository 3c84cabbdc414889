package daemon

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// with returns the lines that contain text.
func (b *logBook) with(text string) (found []string) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// runLogged is run with a log and a short interval between stream checks.
func runLogged(t *testing.T, env ...string) (*Bridge, *logBook) {
	t.Helper()
	c, err := config.Load(config.Sources{Env: env})
	require.NoError(t, err)
	book := &logBook{}
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.New(book), Version: "1.2.3", checkInterval: 20 * time.Millisecond, lookTimeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return b, book
}

func natsWith(t *testing.T, configure func(*natsd.Options)) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, Configure: configure})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// TestConnectionLimitOfTheServer opens 16 lanes and two more connections to a server that accepts
// six.
func TestConnectionLimitOfTheServer(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	nats := natsWith(t, func(o *natsd.Options) { o.MaxConn = 6 })
	b, book := runLogged(t, peers(devices, nats)...)
	want := "nats at " + nats.URL() + " has reached its max_connections: maximum connections exceeded"
	const advice = "raise max_connections in the server's configuration"
	var problems []Problem
	require.Eventually(t, func() bool {
		problems = b.Problems()
		return len(problems) == 1 && len(problems[0].Lanes) >= 12 && problems[0].Problem == want
	}, testrun.Timeout, 5*time.Millisecond, "%v", &problems)
	require.Equal(t, "nats", problems[0].Component)
	require.Contains(t, problems[0].Advice, advice)
	require.Eventually(t, func() bool { return len(book.with(`"level":"warn"`)) == 1 }, testrun.Timeout, 5*time.Millisecond)
	var line struct{ Component, Cause, Problem, Advice, Message string }
	require.NoError(t, json.Unmarshal([]byte(book.with(`"level":"warn"`)[0]), &line))
	require.Equal(t, "lane not connected to nats", line.Message)
	require.Equal(t, want, line.Problem)
	require.Equal(t, problems[0].Advice, line.Advice)
	require.NotContains(t, book.with("")[0], "broken pipe")
}

// TestMissingPermission requires that a missing permission is named as soon as the server reports
// it, without waiting for a timeout.
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	nats := natsWith(t, func(o *natsd.Options) {
		o.Users = []*natsd.User{{Username: "bridge", Password: "p", Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>"}},
		}}}
	})
	c, err := config.Load(config.Sources{Env: append(brokerOf(devices), "NATS_URL="+strings.Replace(nats.URL(), "nats://", "nats://bridge:p@", 1))})
	require.NoError(t, err)
	book := &logBook{}
	// The violation ends the request before its timeout.
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.New(book), lookTimeout: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	var found Problem
	require.Eventually(t, func() bool {
		for _, p := range b.Problems() {
			if p.Component == "streams" && p.Problem != "the streams have not been checked yet" {
				found = p
				return true
			}
		}
		return false
	}, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, "the NATS user may not publish to $JS.API.STREAM.CREATE.TELEMETRY", found.Problem)
	require.Equal(t, "allow the NATS user to publish to $JS.API.STREAM.CREATE.TELEMETRY, or create the stream manually and set streams.manage: verify", found.Advice)
	var lines []string // logged after the problem is visible
	require.Eventually(t, func() bool { lines = book.with("STREAM.CREATE.TELEMETRY"); return len(lines) > 0 }, testrun.Timeout, 5*time.Millisecond)
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `"message":"streams not ready"`)
	require.Contains(t, lines[0], `"advice":"`+found.Advice)
}

func TestStreamRecreation(t *testing.T) {
	t.Parallel()
	t.Run("deleted stream is created again", testDeletedStreamIsCreatedAgain)
	t.Run("deleted stream is created again at hub", testDeletedStreamIsCreatedAgainAtHub)
}

// testDeletedStreamIsCreatedAgain also checks that deleting a stream or a consumer ends no
// connection.
func testDeletedStreamIsCreatedAgain(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b, _ := runLogged(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0-1")...)
	waitReady(t, b)
	deleteAndAwait(t, b)
	waitReady(t, b)
}

func testDeletedStreamIsCreatedAgainAtHub(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	hub, leafURL := leafHub(t)
	b, _ := runLogged(t, append(leafPeers(t, devices, hub, leafURL), "BRIDGE_LANES_PARTITIONS=0-1")...)
	waitReady(t, b)
	awaitHubStreams(t, b)
	deleteAndAwait(t, b)
}

// deleteAndAwait deletes a consumer, then its stream, and waits for them. It asks the server: a log
// line names only what was created within the timeout of the request.
func deleteAndAwait(t *testing.T, b *Bridge) {
	t.Helper()
	js := b.control.js
	exists := func() bool {
		_, err := js.Consumer(t.Context(), "TELEMETRY", "ingest-workers")
		return err == nil
	}
	require.NoError(t, js.DeleteConsumer(t.Context(), "TELEMETRY", "ingest-workers"))
	require.Eventually(t, exists, testrun.Timeout, 5*time.Millisecond)
	require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
	require.Eventually(t, exists, testrun.Timeout, 5*time.Millisecond)
}
