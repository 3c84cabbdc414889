package faults

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

func TestBrokerFaults(t *testing.T) {
	t.Parallel()
	t.Run("restart with sessions loses nothing", testRestartWithSessionsLosesNothing)
	t.Run("second client with same id costs nothing", testSecondClientWithSameIdCostsNothing)
}

// On a regular stop, mosquitto writes its sessions to disk. Devices reconnect and resend their
// unacknowledged messages.
func testRestartWithSessionsLosesNothing(t *testing.T) {
	t.Parallel()
	times := 5
	if testrun.Quick() {
		times = 2
	}
	proof.Survive(t, proof.Fault{Name: "mosquitto restarted", Times: times, Inject: func(r *proof.Rig) {
		r.LogOffset = len(r.Bridge.Log().String())
		r.Broker.Restart()
		r.AwaitSession()
	}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 4000 * times, Reconnect: true})
}

// A second client with the bridge's client id repeatedly takes over the session. Each time it
// receives messages without acknowledging any, until the bridge takes the session back.
func testSecondClientWithSameIdCostsNothing(t *testing.T) {
	t.Parallel()
	times := 5
	if testrun.Quick() {
		times = 2
	}
	proof.Survive(t, proof.Fault{Name: "second client with the client id", Times: times, Inject: func(r *proof.Rig) {
		r.LogOffset = len(r.Bridge.Log().String())
		dialSession(t, r.Broker.Addr, proof.ClientID).untilClosed()
		r.AwaitSession()
	}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 4000 * times})
}

// Devices that get no PUBACKs send every message twice, and the broker redelivers as well. In
// MQTT, a device's two publishes are two messages [MQTT-4.3.2]; each is stored once.
func TestRetransmissions(t *testing.T) {
	t.Parallel()
	times := 4
	if testrun.Quick() {
		times = 2
	}
	for what, o := range map[string]proof.LoadOptions{
		"everything twice":            {Devices: 200, Rate: 1500, Total: 3000 * times, Twice: true},
		"everything twice, identical": {Devices: 1, Rate: 1500, Total: 3000 * times, Twice: true, Identical: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			proof.Survive(t, proof.Fault{Name: "every device and the broker retransmit", Times: times, Inject: func(r *proof.Rig) {
				r.LogOffset = len(r.Bridge.Log().String())
				r.Broker.Kick(proof.ClientID)
				r.AwaitSession()
			}}, what, o)
		})
	}
}

// untilClosed reads without acknowledging until the broker closes the connection in favour of
// another.
func (c *session) untilClosed() {
	c.t.Helper()
	require.NoError(c.t, c.conn.SetDeadline(time.Now().Add(testrun.Timeout)))
	buf := make([]byte, 64<<10)
	for {
		if _, err := c.in.Read(buf); err != nil {
			require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}
