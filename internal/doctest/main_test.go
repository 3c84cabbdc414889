package doctest

import (
	"testing"

	"mqtt-nats-bridge/internal/testrun"
)

func TestMain(m *testing.M) { testrun.Main(m) }
