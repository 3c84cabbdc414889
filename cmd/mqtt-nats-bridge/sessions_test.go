package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/cli"
)

func TestSessionsAreClearedButNotThoseInUse(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{Username: "bridge", Password: "pw"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	at := []string{"--mqtt-url=" + b.URL(), "--set=mqtt.username=bridge", "--set=mqtt.password=pw", "--set=identity.mode=off"}
	clear := func(args ...string) outcome {
		return run(t, append(append([]string{"sessions", "clear"}, args...), at...)...)
	}

	asked := clear("bridge-1")
	require.Equal(t, cli.ExitUsage, asked.code)
	require.Contains(t, asked.err, "give --yes")
	own := clear("bridge-1", "bridge-0", "--yes")
	require.Equal(t, cli.ExitUsage, own.code)
	require.Contains(t, own.err, "bridge-0 is a lane of this configuration")
	none := clear("--yes")
	require.Equal(t, cli.ExitUsage, none.code)
	require.Contains(t, none.err, "Example: mqtt-nats-bridge sessions clear bridge-2 bridge-3")

	done := clear("bridge-1", "bridge-2", "--yes")
	require.Zero(t, done.code, done.err)
	require.Equal(t, "bridge-1: the broker had no session under this client id\nbridge-2: the broker had no session under this client id\n", done.out)

	at[2] = "--set=mqtt.password=wrong"
	refused := clear("bridge-1", "--yes")
	require.Equal(t, cli.ExitFailed, refused.code)
	require.Contains(t, refused.out, "bridge-1: failed: ")
	require.Contains(t, refused.out, "refuses the credentials")
}
