package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

func TestNATSFaults(t *testing.T) {
	t.Parallel()
	t.Run("outage of a minute costs nothing", testOutageOfAMinuteCostsNothing)
	t.Run("messages wait for room in a full stream", testMessagesWaitForRoomInAFullStream)
}

func testOutageOfAMinuteCostsNothing(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the link tests have shorter outages")
	const away = time.Minute
	proof.Survive(t, proof.Fault{Name: "NATS unreachable for " + away.String(), Rig: proof.RigOptions{NATSProxy: true}, Inject: func(r *proof.Rig) {
		require.Positive(t, r.NATSProxies[0].Down())
		time.Sleep(away) // duration of the fault
		r.NATSProxies[0].Up()
	}}, "1,000 per second", proof.LoadOptions{Devices: 200, Rate: 1000, Total: 1000 * int((away+20*time.Second)/time.Second)})
}

// A full stream with discard policy "new" refuses every message. The messages wait until it has
// room.
func testMessagesWaitForRoomInAFullStream(t *testing.T) {
	t.Parallel()
	full := proof.Shorter(10 * time.Second)
	proof.Survive(t, proof.Fault{Name: "stream full for " + full.String(), Times: 2, Inject: func(r *proof.Rig) {
		most := r.LimitStream(2000)
		count := func() int64 {
			s, err := r.JS.Stream(t.Context(), "TELEMETRY")
			require.NoError(t, err)
			return int64(s.CachedInfo().State.Msgs)
		}
		proof.Eventually(t, func() bool { return count() >= most }, func() any { return "the stream does not fill up" })
		held := count()
		time.Sleep(full) // duration of the fault
		require.Equal(t, held, count(), "a full stream takes nothing")
		r.LimitStream(-1)
	}}, "2,000 per second", proof.LoadOptions{Devices: 200, Rate: 2000, Total: 2000 * int((2*full+8*time.Second)/time.Second)})
}
