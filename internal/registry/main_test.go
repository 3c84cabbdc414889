package registry

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/testrun"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// under is a source that runs until the test ends.
func under(t *testing.T, s Source) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func eventually(t *testing.T, what string, s Source, done func(State) bool) State {
	t.Helper()
	deadline := time.Now().Add(testrun.Timeout)
	for {
		state := s.State()
		if done(state) {
			return state
		}
		if time.Now().After(deadline) {
			require.FailNow(t, "the condition was not met in time: "+what, "%+v", state)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func loaded(s Source) bool {
	select {
	case <-s.Loaded():
		return true
	default:
		return false
	}
}

// is waits until a certificate has the wanted state, and returns how long that took.
func is(t *testing.T, s Source, c *certificates.Live, name string, want certificates.Certificate, known bool) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, name, s, func(State) bool {
		got, ok := c.Certificate([]byte(name))
		return ok == known && got == want
	})
	return time.Since(began)
}

func active(notAfter int64) certificates.Certificate {
	return certificates.Certificate{Active: true, Status: "ACTIVE", NotAfter: notAfter}
}

func quiet() zerolog.Logger { return zerolog.Nop() }
