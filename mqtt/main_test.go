package mqtt

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait on real time. No test passes by waiting.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
