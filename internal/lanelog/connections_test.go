package lanelog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/conn"
)

func TestConnectionsWithoutAdvice(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := NewConnections(zerolog.New(&log))
	l.ControlIs(true)
	l.Hooks("x-0").ConnectFailed(conn.Problem{Err: errors.New("other")})
	require.Contains(t, log.String(), "lane not connected to nats")
	require.NotContains(t, log.String(), "advice")
}
