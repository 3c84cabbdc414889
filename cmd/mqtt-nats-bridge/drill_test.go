package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
)

// On plain topics no check prevents a device from using another's topic: a drill passes, and the
// same drill with an impostor fails.
func TestDrillExitCode(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	server := startNATS(t)
	ends := []string{
		"--mqtt-url", strings.Replace(b.URL(), "tcp://", "mqtt://", 1), "--nats-url", server.URL(),
		"--set", "identity.mode=off", "--set", "admin.listen=",
	}
	bridge := start(t, append([]string{"run", "--log-format", "json"}, ends...)...)
	bridge.waitLog("mqtt connected")

	args := append([]string{
		"drill", "--broker", strings.Replace(b.URL(), "tcp://", "mqtt://", 1), "--for", "1s", "--devices", "3", "--rate", "20", "-o", "json",
	}, ends...)
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"passed": {args, 0},
		"failed": {append(args[:len(args):len(args)], "--impostor"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := peers.Run(t, c.args...)
			require.Equal(t, c.code, got.Code, "%s%s", got.Out, got.Err)
			require.Empty(t, got.Err)
			var report struct {
				OK                              bool
				Published, Acknowledged, Stored int
			}
			require.NoError(t, json.Unmarshal([]byte(got.Out), &report))
			require.Equal(t, c.code == 0, report.OK)
			require.Positive(t, report.Acknowledged)
			require.Equal(t, report.Acknowledged, report.Stored)
		})
	}
}
