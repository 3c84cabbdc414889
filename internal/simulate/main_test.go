package simulate

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain reduces garbage collection: every start of a simulated bridge allocates a lane's
// window, and collecting these windows took a third of the CPU time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
