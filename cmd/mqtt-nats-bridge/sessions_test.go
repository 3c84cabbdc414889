package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/peers"
)

func TestSessionsClear(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{Username: "bridge", Password: "pw"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	at := []string{"--mqtt-url=" + b.URL(), "--set=mqtt.username=bridge", "--set=mqtt.password=pw", "--set=identity.mode=off"}
	clear := func(args ...string) peers.Outcome {
		return peers.Run(t, append(append([]string{"sessions", "clear"}, args...), at...)...)
	}

	asked := clear("bridge-1")
	require.Equal(t, cli.ExitUsage, asked.Code)
	require.Contains(t, asked.Err, "set --yes")
	own := clear("bridge-1", "bridge-0", "--yes")
	require.Equal(t, cli.ExitUsage, own.Code)
	require.Contains(t, own.Err, "bridge-0 is a lane of this configuration")
	none := clear("--yes")
	require.Equal(t, cli.ExitUsage, none.Code)
	require.Contains(t, none.Err, "Example: mqtt-nats-bridge sessions clear bridge-2 bridge-3")

	done := clear("bridge-1", "bridge-2", "--yes")
	require.Zero(t, done.Code, done.Err)
	require.Equal(t, "bridge-1: the broker has no session with this client id\nbridge-2: the broker has no session with this client id\n", done.Out)

	at[2] = "--set=mqtt.password=wrong"
	refused := clear("bridge-1", "--yes")
	require.Equal(t, cli.ExitFailed, refused.Code)
	require.Contains(t, refused.Out, "bridge-1: failed: ")
	require.Contains(t, refused.Out, "refuses the credentials")
}
