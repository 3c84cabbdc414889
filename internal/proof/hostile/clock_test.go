package hostile

import (
	"fmt"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
)

// The limits use the broker's clock, which jumps forward and back here. No well-behaved device
// may be limited because of it. (Tests of package bridge and the simulation inject jumps of the
// bridge's own clock.)
func TestBrokerClockJump(t *testing.T) {
	t.Parallel()
	const devices, burst, rate = 3, 6, 10 // per device: messages between jumps, and per second
	r := newAttestedRig(t, nil)
	jumps := []time.Duration{0, time.Hour, 0, -time.Hour, -time.Hour, 0, 10 * time.Minute, -24 * time.Hour, 0}
	l := proof.NewLoad(proof.LoadOptions{Devices: devices, Total: devices * burst * len(jumps), Size: 64, Topic: "telemetry"})
	clients := make([]paho.Client, devices)
	for d := range devices {
		tenant, name := proof.Device(d)
		clients[d] = r.device(tenant + "/" + name)
	}
	for _, jump := range jumps {
		for range burst {
			time.Sleep(time.Second / rate) // the devices' real rate: the bridge falls back to the time of arrival
			r.setClock(time.Now().Add(jump))
			for d := range devices {
				topic, payload := l.Next()
				proof.AwaitToken(t, clients[d].Publish(topic, 1, false, payload))
				l.NoteAck()
			}
		}
	}
	proof.Eventually(t, func() bool {
		total := r.bridge.Totals()
		return total.Received == uint64(l.Sent()) && total.InFlight == 0
	}, func() any { return r.bridge.Totals() })
	v := l.Reconcile(proof.ReadLoad(t, r.js, "TELEMETRY"))
	total := r.bridge.Totals()
	v.Quarantined = int(total.QuarantinedTotal())
	proof.Report("broker's clock jumps", fmt.Sprintf("%d jumps", len(jumps)-1), v)
	require.True(t, v.Clean(), v)
	require.Zero(t, v.Quarantined)
}
