package proof

import (
	"context"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// Settings maps paths of configuration keys to values.
type Settings map[string]string

// StartInProcess starts a bridge in this process, which stops with the test. It does not wait until
// the bridge is ready.
func StartInProcess(t testing.TB, s Settings) *daemon.Bridge {
	t.Helper()
	flags := []config.Flag{{Path: "admin.listen", Value: ""}}
	for path, value := range s {
		flags = append(flags, config.Flag{Path: path, Value: value})
	}
	c, err := config.Load(config.Sources{Flags: flags})
	require.NoError(t, err)
	b, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.Nop(), Version: "proof"})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// If a test leaves a peer down, messages in flight are abandoned.
		_ = b.Close(ctx)
	})
	return b
}

// PlainSettings returns the settings for a lane on plain topics without limits.
func PlainSettings(mqttURL, natsURL string) Settings {
	return Settings{
		"mqtt.url": mqttURL, "nats.url": natsURL,
		"identity.mode": "off", "limits.device.rate": "0",
	}
}

// With sets a key and returns the settings.
func (s Settings) With(path, value string) Settings {
	s[path] = value
	return s
}

// AwaitReady waits until the bridge has no problem.
func AwaitReady(t testing.TB, b *daemon.Bridge) {
	t.Helper()
	Eventually(t, func() bool { return len(b.Problems()) == 0 }, func() any { return b.Problems() })
}

// AwaitProblem waits until the bridge reports a problem of the component that contains all of
// words.
func AwaitProblem(t testing.TB, b *daemon.Bridge, component string, words ...string) daemon.Problem {
	t.Helper()
	var found daemon.Problem
	Eventually(t, func() bool {
		for _, p := range b.Problems() {
			if p.Component == component && ContainsAll(p.Problem+" "+p.Advice, words) {
				found = p
				return true
			}
		}
		return false
	}, func() any { return b.Problems() })
	return found
}

// Eventually waits until done returns true, at most for testrun.Timeout. said describes the present
// state for the failure.
func Eventually(t testing.TB, done func() bool, said func() any) {
	t.Helper()
	EventuallyWithin(t, testrun.Timeout, done, said)
}

// EventuallyWithin is [Eventually] with another timeout.
func EventuallyWithin(t testing.TB, d time.Duration, done func() bool, said func() any) {
	t.Helper()
	deadline := time.Now().Add(d)
	for !done() {
		if time.Now().After(deadline) {
			require.FailNow(t, "the condition was not met in time", "%+v", said())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// StartJetStream starts an embedded nats-server that stops with the test.
func StartJetStream(t testing.TB, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := embedded.Open(o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// AwaitMessage waits for a message on a subject and returns the latest.
func AwaitMessage(t testing.TB, js natsjs.JetStream, stream, subject string) *natsjs.RawStreamMsg {
	t.Helper()
	var m *natsjs.RawStreamMsg
	var err error
	Eventually(t, func() bool {
		var s natsjs.Stream
		if s, err = js.Stream(t.Context(), stream); err == nil {
			m, err = s.GetLastMsgForSubject(t.Context(), subject)
		}
		return err == nil
	}, func() any { return subject + ": " + err.Error() })
	// A direct get adds these headers (ADR-31); they are not in the stream.
	for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
		m.Header.Del(added)
	}
	return m
}

// ContainsAll reports whether a text contains all of words.
func ContainsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// BridgePassword is the password of the bridge at the embedded broker.
const BridgePassword = "bridge-at-broker"

// AwaitToken waits until paho has completed the token's operation.
func AwaitToken(t testing.TB, token paho.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(testrun.Timeout), "no answer from the broker")
	require.NoError(t, token.Error())
}

// StartBroker starts an embedded broker that stops with the test.
func StartBroker(t testing.TB, o broker.Options) (b *broker.Broker, addr string) {
	t.Helper()
	b, err := broker.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b, strings.TrimPrefix(b.URL(), "tcp://")
}

// AwaitSubscribed waits until the only lane has subscribed.
func AwaitSubscribed(t testing.TB, b *daemon.Bridge) {
	t.Helper()
	Eventually(t, func() bool { return b.Status(t.Context()).Lanes[0].Session.Subscribed }, func() any { return b.Problems() })
}
