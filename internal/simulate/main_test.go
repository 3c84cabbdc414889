package simulate

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain collects garbage less often: every start of a simulated bridge allocates a lane's window,
// and collecting these took a third of the CPU time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
