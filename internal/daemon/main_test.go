package daemon

import (
	"testing"

	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/testrun"
)

func TestMain(m *testing.M) {
	// A server that ends while a stream asks its source waits for the answer, up to 30 s.
	const asksItsSource = "github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"
	testrun.Main(m, goleak.IgnoreTopFunction(asksItsSource))
}
