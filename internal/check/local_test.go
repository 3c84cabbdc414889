package check

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocalFindings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, test := range map[string]struct {
		stateDir, want string
		fails          int
	}{
		"writable": {dir, "ok    state_dir: " + dir + " is writable", 0},
		"missing":  {filepath.Join(dir, "later"), "does not exist yet, the bridge creates it", 0},
		"none":     {"", "note  config: BRIDGE_STATE_DIR: is empty: message ids of plain topics are kept in memory", 0},
		"unusable": {"/proc/self", "FAIL  state_dir: not writable", 1},
	} {
		c, plan := load(t, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_STATE_DIR="+test.stateDir)
		var out bytes.Buffer
		r := NewReport(&out)
		Local(c, plan, r)
		require.Contains(t, out.String(), test.want, name)
		require.Equal(t, test.fails, r.Failed(), name)
		require.Contains(t, out.String(), "ok    config: 3 topics, 1 lane bridge-0, streams TELEMETRY, SHADOW, COMMANDS, QUARANTINE\n", name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
