package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

// unmanaged returns settings with streams.manage: off.
var unmanaged = natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, Storage: natsjs.FileStorage}

// TestUnmanagedStreams requires that existing streams are read, and that a setting that can lose
// messages is a warning until the stream is corrected.
func TestUnmanagedStreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*natsjs.StreamConfig)
		want   string
	}{
		"interest": {func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy }, "retention is interest, must be limits, or messages can be lost"},
		"no_ack":   {func(c *natsjs.StreamConfig) { c.NoAck = true }, "no_ack is true, must be false, or messages can be lost"},
		"memory":   {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, "storage is memory, must be file, or messages can be lost"},
		"sealed":   {func(c *natsjs.StreamConfig) { c.Sealed = true }, "sealed is true, must be false, or messages can be lost"},
		"mirror": {func(c *natsjs.StreamConfig) { c.Subjects, c.Mirror = nil, &natsjs.StreamSource{Name: "OTHER"} },
			"mirror is OTHER, must be none, or messages can be lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := embeddedNATS(t)
			js := jetStream(t, server.URL())
			_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
			require.NoError(t, err)
			c := unmanaged
			test.change(&c)
			sealed := c.Sealed
			c.Sealed = false
			_, err = js.CreateStream(t.Context(), c)
			require.NoError(t, err)
			if sealed {
				c.Sealed = true
				_, err = js.UpdateStream(t.Context(), c)
				require.NoError(t, err)
			}
			b, log := runLogged(t, append(peers(attesting(t), server), "BRIDGE_LANES_PARTITIONS=0-f", "BRIDGE_STREAMS_MANAGE=off")...)
			waitReady(t, b)
			require.Eventually(t, func() bool { return warned(b, "stream TELEMETRY: "+test.want) }, testrun.Timeout, 5*time.Millisecond)
			require.Len(t, log.with(test.want), 1)
			require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
			_, err = js.CreateStream(t.Context(), unmanaged)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return !warned(b, "TELEMETRY") }, testrun.Timeout, 5*time.Millisecond)
		})
	}
	// Unconfirmed messages are not lost: these two are only logged.
	for name, test := range map[string]struct {
		change func(*natsjs.StreamConfig)
		want   string
	}{
		"subjects": {func(c *natsjs.StreamConfig) { c.Subjects = []string{"tenant.acme.>"} }, "subjects is tenant.acme.>, configured is tenant.*.device.*.*"},
		"limits":   {func(c *natsjs.StreamConfig) { c.MaxMsgs = 1 }, "max_msgs is 1, configured is no limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := embeddedNATS(t)
			js := jetStream(t, server.URL())
			c := unmanaged
			test.change(&c)
			_, err := js.CreateStream(t.Context(), c)
			require.NoError(t, err)
			b, log := runLogged(t, append(peers(attesting(t), server), "BRIDGE_LANES_PARTITIONS=0-f", "BRIDGE_STREAMS_MANAGE=off")...)
			require.Eventually(t, func() bool { return len(log.with(test.want)) == 1 }, testrun.Timeout, 5*time.Millisecond)
			require.False(t, warned(b, "TELEMETRY"))
		})
	}
	t.Run("permission", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "nats.conf")
		require.NoError(t, os.WriteFile(file, []byte(`authorization { users: [
			{ user: bridge, password: bridge, permissions: { publish: ["tenant.>", "quarantine.>"], subscribe: "_INBOX.>" } }
		] }`), 0o600))
		server, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, ConfigFile: file})
		require.NoError(t, err)
		t.Cleanup(server.Close)
		b, _ := runLogged(t, append(peers(attesting(t), server), "BRIDGE_LANES_PARTITIONS=0-f", "BRIDGE_STREAMS_MANAGE=off",
			"BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge")...)
		waitReady(t, b)
		require.Eventually(t, func() bool { return warned(b, "the streams cannot be read") && warned(b, "$JS.API.STREAM.INFO.") }, testrun.Timeout, 5*time.Millisecond)
	})
}

// An unanswered check does not change the result of the previous one.
func TestUnreadableStreams(t *testing.T) {
	t.Parallel()
	log := &logBook{}
	c := &control{unread: health.New(health.Options{Component: "streams"}), logged: warningLog{log: zerolog.New(log)}}
	sealed := streams.Contradictions{{Object: "stream TELEMETRY", Advice: "it is sealed"}}
	problems := func() (texts []string) {
		for _, p := range c.unmanagedProblems() {
			texts = append(texts, p.Problem)
		}
		return texts
	}
	c.recordUnmanaged(t.Context(), sealed)
	since := c.unmanaged[0].Since
	for range 2 {
		c.recordUnmanaged(t.Context(), errors.New("no answer"))
		require.Equal(t, []string{"the streams cannot be read, so their settings could not be checked: no answer", sealed[0].Error()}, problems())
	}
	c.recordUnmanaged(t.Context(), sealed)
	require.Equal(t, []string{sealed[0].Error()}, problems())
	require.Equal(t, since, c.unmanaged[0].Since)
	require.Len(t, log.with(sealed[0].Error()), 1)
	c.recordUnmanaged(t.Context(), nil)
	require.Empty(t, c.unmanaged)
}

func warned(b *Bridge, text string) bool {
	return slices.ContainsFunc(b.Warnings(), func(p Problem) bool { return p.Component == "streams" && strings.Contains(p.Problem, text) })
}

func jetStream(t *testing.T, url string) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}
