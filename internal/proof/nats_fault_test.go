package proof

import (
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// shorter is d, or a tenth of it in a short run.
func shorter(d time.Duration) time.Duration {
	if quick() {
		return d / 10
	}
	return d
}

func TestNATSAwayForAMinuteUnderLoadCostsNothing(t *testing.T) {
	t.Parallel()
	away := shorter(time.Minute)
	survive(t, fault{name: "NATS away for " + away.String(), rig: rigOptions{NATSProxy: true}, strike: func(r *plainRig) {
		require.Positive(t, r.natsProxies[0].Down())
		time.Sleep(away) // the fault itself
		r.natsProxies[0].Up()
	}}, "1,000 per second", loadOptions{Devices: 200, Rate: 1000, Total: 1000 * int((away+20*time.Second)/time.Second)})
}

// A stream that is full and discards new messages refuses everything, and
// everything waits, until it has room.
func TestAFullStreamHoldsEverythingUntilItHasRoom(t *testing.T) {
	t.Parallel()
	full := shorter(10 * time.Second)
	survive(t, fault{name: "stream full for " + full.String(), times: 2, strike: func(r *plainRig) {
		most := r.limitStream(2000)
		count := func() int64 {
			s, err := r.js.Stream(t.Context(), "TELEMETRY")
			require.NoError(t, err)
			return int64(s.CachedInfo().State.Msgs)
		}
		eventually(t, func() bool { return count() >= most }, func() any { return "the stream does not fill up" })
		held := count()
		time.Sleep(full) // the fault itself
		require.Equal(t, held, count(), "a full stream takes nothing")
		r.limitStream(-1)
	}}, "2,000 per second", loadOptions{Devices: 200, Rate: 2000, Total: 2000 * int((2*full+8*time.Second)/time.Second)})
}

// limitStream lets the stream grow by so many messages and then discard new ones;
// negative: without end. It returns how many it holds at most.
func (r *plainRig) limitStream(more int64) (most int64) {
	r.t.Helper()
	eventually(r.t, func() bool {
		s, err := r.js.Stream(r.t.Context(), "TELEMETRY")
		if err != nil {
			return false // between two leaders
		}
		c := s.CachedInfo().Config
		if most = -1; more >= 0 {
			most = int64(s.CachedInfo().State.Msgs) + more
		}
		c.Discard, c.MaxMsgs = natsjs.DiscardNew, most
		_, err = r.js.UpdateStream(r.t.Context(), c)
		return err == nil
	}, func() any { return "the stream cannot be changed" })
	return most
}
