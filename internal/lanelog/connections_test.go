package lanelog

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/conn"
)

func TestConnections(t *testing.T) {
	t.Parallel()
	t.Run("line without advice has no advice field", testLineWithoutAdviceHasNoAdviceField)
	t.Run("problems are readable while log blocks", testProblemsAreReadableWhileLogBlocks)
}

func testLineWithoutAdviceHasNoAdviceField(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := NewConnections(zerolog.New(&log))
	l.ControlIs(true)
	l.Hooks("x-0").ConnectFailed(conn.Problem{Err: errors.New("other")})
	require.Contains(t, log.String(), "lane not connected to nats")
	require.NotContains(t, log.String(), "advice")
}

func testProblemsAreReadableWhileLogBlocks(t *testing.T) {
	t.Parallel()
	out, in := io.Pipe() // a write blocks until it is read
	l := NewConnections(zerolog.New(in))
	l.ControlIs(true)
	for _, change := range []func(){
		func() { l.Hooks("x-0").ConnectFailed(conn.Problem{Err: errors.New("other")}) },
		func() { l.Hooks("x-0").Reconnected(nil) },
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			change()
		}()
		_, err := out.Read(make([]byte, 1)) // the rest of the line blocks
		require.NoError(t, err)
		l.Problem("x-0")
		_, err = out.Read(make([]byte, 10_000))
		require.NoError(t, err)
		<-done
	}
	_, failing := l.Problem("x-0")
	require.False(t, failing)
}
