package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// orphanMaker is set in the copy of the test binary that exits first.
const orphanMaker = "PEERS_TEST_ORPHAN_MAKER"

func TestPeersDieWithAKilledTestBinary(t *testing.T) {
	t.Parallel()
	if os.Getenv(orphanMaker) != "" {
		p := &Process{t: t, name: "sleep", path: program(t, "sleep"), args: []string{"600"}}
		p.start()
		fmt.Printf("peer=%d\n", p.PID())
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), orphanMaker+"=1")
	out, err := cmd.Output()
	require.Error(t, err, "killed")
	_, rest, ok := strings.Cut(string(out), "peer=")
	require.True(t, ok, "%s", out)
	line, _, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return gone(pid) }, testrun.Timeout, time.Millisecond)
}

// gone reports whether a process has ended, even if its parent has not reaped it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
