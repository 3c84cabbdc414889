package proof

import (
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// shorter is d, or a tenth of it in a short run.
func shorter(d time.Duration) time.Duration {
	if testing.Short() {
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
	}}, "1,000 a second", loadOptions{Devices: 200, Rate: 1000, Total: 1000 * int((away+20*time.Second)/time.Second)})
}

// A stream that is full and discards new messages refuses everything, and
// everything waits, until it has room.
func TestAFullStreamHoldsEverythingUntilItHasRoom(t *testing.T) {
	t.Parallel()
	full := shorter(10 * time.Second)
	survive(t, fault{name: "stream full for " + full.String(), times: 2, strike: func(r *plainRig) {
		stream, err := r.js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		info := stream.CachedInfo()
		c := info.Config
		c.Discard, c.MaxMsgs = natsjs.DiscardNew, int64(info.State.Msgs)+100
		_, err = r.js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
		eventually(t, func() bool {
			info, err := stream.Info(t.Context())
			return err == nil && info.State.Msgs >= uint64(c.MaxMsgs)
		}, func() any { return "the stream does not fill up" })
		time.Sleep(full) // the fault itself
		before, err := stream.Info(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, c.MaxMsgs, before.State.Msgs)
		c.MaxMsgs = -1
		_, err = r.js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
	}}, "2,000 a second", loadOptions{Devices: 200, Rate: 2000, Total: 2000 * int((2*full+8*time.Second)/time.Second)})
}
