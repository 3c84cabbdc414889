package deploytest

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/testrun"
)

// The user bridge of nats.conf has all permissions that replicas need, from creating the bucket to
// handing over a partition. The server refuses nothing.
func TestReplicaPermissions(t *testing.T) {
	t.Parallel()
	s, _ := startNATS(t, filepath.Join(root, "nats.conf"))
	mqtt, err := broker.Open(broker.Options{Username: "bridge", Password: "pw", Attest: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = mqtt.Close() })
	var log child.Log
	start := func() *daemon.Bridge {
		c, err := config.Load(config.Sources{Env: []string{
			"MQTT_URL=" + mqtt.URL(), "BRIDGE_MQTT_USERNAME=bridge", "BRIDGE_MQTT_PASSWORD=pw",
			"NATS_URL=" + s.ClientURL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=" + natsPasswords["bridge"],
			"BRIDGE_NATS_INBOX_PREFIX=_INBOX.bridge", "BRIDGE_LANES_PARTITIONS=auto",
		}})
		require.NoError(t, err)
		b, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.New(&log)})
		require.NoError(t, err)
		return b
	}
	holds := func(b *daemon.Bridge, n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			ready, _ := b.Ready()
			return ready && b.Status(t.Context()).Replicas.Leased == n
		}, testrun.Timeout, 10*time.Millisecond, "%s", &log)
	}
	first := start()
	holds(first, 16)
	second := start()
	holds(first, 8)
	holds(second, 8)

	if program, err := exec.LookPath("nats"); err == nil { // the operator's step in docs/replicas.md
		home := t.TempDir()
		cmd := exec.Command(program, "--server", s.ClientURL(), "--user", "operator", "--password", natsPasswords["operator"],
			"kv", "get", "BRIDGE_LANES", "bridge.p3", "--raw")
		cmd.Env = append(cmd.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), `"holder":"`)
	}

	require.NoError(t, first.Close(context.Background()))
	holds(second, 16)
	require.NoError(t, second.Close(context.Background()))
	require.NotContains(t, log.String(), "iolation")
	for line := range strings.Lines(log.String()) {
		// A busy nats-server may answer the first request after its deadline, so the request is
		// repeated.
		if strings.Contains(line, `"level":"error"`) && !strings.Contains(line, "context deadline exceeded") {
			require.Fail(t, line)
		}
	}
}
