package daemon

import (
	"os"
	"testing"

	"mqtt-nats-bridge/internal/testrun"
)

// TestMain does not look for leaked goroutines: a nats-server that is shut down while it creates a
// stream leaves some behind.
func TestMain(m *testing.M) {
	testrun.Parallel()
	os.Exit(m.Run())
}
