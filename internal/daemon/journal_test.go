package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// Without its journal a lane accepts no messages and reports that. It continues without a restart
// once the state directory is writable.
func TestJournalUnavailable(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	blocked := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600)) // a file in place of a directory
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0", "BRIDGE_STATE_DIR="+filepath.Join(blocked, "dir"))...)
	var problems []Problem
	require.Eventually(t, func() bool {
		var ready bool
		ready, problems = b.Ready()
		return !ready && len(problems) == 1 && problems[0].Problem != "not opened yet"
	}, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, "lane", problems[0].Component)
	require.Contains(t, problems[0].Problem, "open journal")
	require.NotEmpty(t, problems[0].Advice)
	require.Empty(t, devices.Clients(), "no session is opened")
	require.NoError(t, os.Remove(blocked))
	waitReady(t, b)
}
