package operation

import (
	"testing"

	"mqtt-nats-bridge/internal/proof"
)

func TestMain(m *testing.M) { proof.Main(m) }
