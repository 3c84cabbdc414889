package proof

import (
	"context"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/jetstream/embedded"
)

// settings are keys of the configuration, as path and value.
type settings map[string]string

// startInProcess starts a bridge in this process; it does not wait until the
// bridge is ready. It stops with the test.
func startInProcess(t testing.TB, s settings) *daemon.Bridge {
	t.Helper()
	flags := []config.Flag{{Path: "admin.listen", Value: ""}}
	for path, value := range s {
		flags = append(flags, config.Flag{Path: path, Value: value})
	}
	c, err := config.Load(config.Sources{Flags: flags})
	require.NoError(t, err)
	b, err := daemon.Start(t.Context(), daemon.Options{Config: c, Log: zerolog.Nop(), Version: "proof"})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Where a test leaves an end down, what was in flight is abandoned.
		_ = b.Stop(ctx)
	})
	return b
}

// plain are the settings of a lane on plain topics without limits.
func plain(mqttURL, natsURL string) settings {
	return settings{
		"mqtt.url": mqttURL, "nats.url": natsURL,
		"identity.mode": "off", "limits.device.rate": "0",
	}
}

func (s settings) with(path, value string) settings {
	s[path] = value
	return s
}

func awaitReady(t testing.TB, b *daemon.Bridge) {
	t.Helper()
	eventually(t, func() bool { return len(b.Problems()) == 0 }, func() any { return b.Problems() })
}

// awaitProblem waits until the bridge names a problem of that component that
// says all of words.
func awaitProblem(t testing.TB, b *daemon.Bridge, component string, words ...string) daemon.Problem {
	t.Helper()
	var found daemon.Problem
	eventually(t, func() bool {
		for _, p := range b.Problems() {
			if p.Component == component && containsAll(p.Problem+" "+p.Advice, words) {
				found = p
				return true
			}
		}
		return false
	}, func() any { return b.Problems() })
	return found
}

// eventually waits, at most for patience; said tells what was there instead.
func eventually(t testing.TB, done func() bool, said func() any) {
	t.Helper()
	eventuallyWithin(t, patience, done, said)
}

func eventuallyWithin(t testing.TB, d time.Duration, done func() bool, said func() any) {
	t.Helper()
	deadline := time.Now().Add(d)
	for !done() {
		if time.Now().After(deadline) {
			require.FailNow(t, "it did not come to pass", "%+v", said())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// startJetStream starts an embedded nats-server.
func startJetStream(t testing.TB, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := embedded.Start(o)
	require.NoError(t, err)
	t.Cleanup(s.Shutdown)
	return s
}

// awaitMessage waits for a message on a subject and returns the latest.
func awaitMessage(t testing.TB, js natsjs.JetStream, stream, subject string) *natsjs.RawStreamMsg {
	t.Helper()
	var m *natsjs.RawStreamMsg
	var err error
	eventually(t, func() bool {
		var s natsjs.Stream
		if s, err = js.Stream(t.Context(), stream); err == nil {
			m, err = s.GetLastMsgForSubject(t.Context(), subject)
		}
		return err == nil
	}, func() any { return subject + ": " + err.Error() })
	// What a direct get adds (ADR-31) is not in the stream.
	for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
		m.Header.Del(added)
	}
	return m
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
