package mqtt

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// waitTimeout bounds every wait on real time. No test passes by waiting.
const waitTimeout = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
