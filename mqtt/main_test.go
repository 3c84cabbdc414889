package mqtt

import (
	"testing"

	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/testrun"
)

// waitTimeout bounds every wait on real time. No test passes by waiting.
var waitTimeout = testrun.Timeout

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
