package brokers

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// matrixBroker is a broker of the matrix.
type matrixBroker struct {
	// start returns the broker's host:port and a function that waits until a topic's messages
	// are delivered and acknowledged. The function is nil if the broker redelivers before it
	// sends new messages, as [MQTT-4.6.0-1] requires: the marker is then the last message.
	start func(testing.TB) (addr string, drain func(testing.TB, string))
	// overtakes is set if the broker delivers new messages before it redelivers.
	overtakes bool
	// doubt limits the duplicates per ended connection. PUBACKs that the broker has not read
	// are lost with the connection. If the broker restarts its packet ids on each connection,
	// those redeliveries look like new messages, up to its window.
	doubt int
}

func matrixBrokers() map[string]matrixBroker {
	return map[string]matrixBroker{
		"mosquitto": {start: func(t testing.TB) (string, func(testing.TB, string)) {
			return peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000}).Addr, nil
		}},
		"RabbitMQ":    {doubt: 10, start: rabbitBroker},                  // mqtt.prefetch
		"nats-server": {doubt: 1024, overtakes: true, start: natsBroker}, // max_ack_pending
	}
}

func rabbitBroker(t testing.TB) (string, func(testing.TB, string)) {
	testrun.SkipQuick(t, "takes a minute of CPU to start")
	return peers.RabbitMQ(t).Addr, nil
}

// natsBroker redelivers after ack_wait. The test sets 15 s instead of 30 s, still longer than
// every outage.
func natsBroker(t testing.TB) (string, func(testing.TB, string)) {
	addr := testrun.Address(t).String()
	server := peers.NATSServer(t, peers.NATSOptions{
		Config: "server_name: broker\nmqtt { listen: \"" + addr + "\", ack_wait: \"15s\" }\n",
	})
	js := proof.ConnectNATS(t, server.URL)
	return addr, func(t testing.TB, topic string) {
		require.Eventually(t, func() bool {
			s, err := js.Stream(t.Context(), "$MQTT_msgs")
			if err != nil {
				return false
			}
			sessions, left := 0, 0
			list := s.ListConsumers(t.Context())
			for c := range list.Info() {
				if !strings.HasSuffix(c.Config.FilterSubject, "."+topic) {
					continue
				}
				sessions++
				left += int(c.NumPending) + c.NumAckPending
			}
			return list.Err() == nil && sessions == 1 && left == 0
		}, 2*testrun.Timeout, 200*time.Millisecond)
	}
}

// check verifies the bridge's guarantees for this broker; ended means that its connection
// ended.
func (b matrixBroker) check(t *testing.T, v proof.Verdict, ended bool) {
	t.Helper()
	require.Zero(t, v.Lost+v.Foreign+v.Quarantined, v)
	if !ended {
		require.True(t, v.Clean(), v)
	}
	if !b.overtakes {
		require.Zero(t, v.Inversions, v)
	}
	require.LessOrEqual(t, v.Duplicated, b.doubt, v)
}
