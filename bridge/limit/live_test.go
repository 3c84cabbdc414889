package limit

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// edit changes the limits in force.
func (v *Live) edit(change func(*Limits)) {
	l := v.Limits()
	change(&l)
	if err := v.Set(l); err != nil {
		panic(err)
	}
}

// atRate returns a device limit without other limits.
func atRate(r Rate) *Live {
	v, err := NewLive(Limits{MaxPayload: 1, Device: r}, nil)
	if err != nil {
		panic(err)
	}
	return v
}

func unlimited() *Live { return atRate(Rate{}) }

func TestLiveLimits(t *testing.T) {
	t.Parallel()
	t.Run("changed rate matches a token bucket", testChangedRateMatchesATokenBucket)
	t.Run("rate without an id still applies", testRateWithoutAnIdStillApplies)
	t.Run("limits change under load", testLimitsChangeUnderLoad)
}

// Whatever an operator changes, a device passes no more messages than a bucket that keeps its
// content, grows at the rate in force, and never exceeds the new burst.
func testChangedRateMatchesATokenBucket(t *testing.T) {
	t.Parallel()
	rates := rapid.Custom(func(t *rapid.T) Rate {
		return Rate{
			Rate:  rapid.SampledFrom([]float64{1.0 / 3600, 0.1, 1, 3, 50, 1000}).Draw(t, "rate"),
			Burst: rapid.SampledFrom([]int{1, 2, 10, 200}).Draw(t, "burst"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		r := rates.Draw(t, "first")
		now := noon
		v, err := NewLive(Limits{MaxPayload: 1, Device: r}, func() int64 { return now })
		require.NoError(t, err)
		d := NewBudgets(BudgetOptions{})
		// The model's bounds, in messages. They differ if a rounding error decides whether the
		// bucket is full when the rate changes.
		low, high, at := float64(r.Burst), float64(r.Burst), now
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "pause") {
				now += rapid.Int64Range(1, 20e9).Draw(t, "ns")
			}
			gain := float64(now-at) * r.Rate / 1e9
			low, high = min(low+gain, float64(r.Burst)), min(high+gain, float64(r.Burst))
			at = now
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				full, perhaps := low >= float64(r.Burst), high >= float64(r.Burst)-1e-3
				r = rates.Draw(t, "next")
				v.edit(func(l *Limits) { l.Device = r })
				low, high = min(low, float64(r.Burst)), min(high, float64(r.Burst))
				if full {
					low = max(low, float64(r.Burst)-1e-3)
				}
				if perhaps {
					high = float64(r.Burst)
				}
			}
			ref := d.Receive([]byte("a/b"), now)
			if d.Take(ref, v.current.Load().device.Meter, now, 0) {
				low, high = low-1, high-1
				require.GreaterOrEqual(t, high, -1e-2, "one too many")
			} else {
				require.Less(t, low, 1+1e-2, "one too few")
			}
			low, high = max(low, 0), max(high, 0)
		}
	})
}

// With more rates than a number can represent, no device waits longer than for a full bucket.
func testRateWithoutAnIdStillApplies(t *testing.T) {
	t.Parallel()
	var s rateIDs
	first := s.meter(Rate{Rate: 1.0 / 3600, Burst: 10}, noon)
	for i := range maxRateIDs + 100 {
		s.meter(Rate{Rate: 1, Burst: i + 1}, noon)
	}
	require.Len(t, *s.table.Load(), maxRateIDs+1)
	d := NewBudgets(BudgetOptions{})
	ref := d.Receive([]byte("a/b"), noon)
	for range 10 {
		require.True(t, d.Take(ref, first, noon, 0))
	}
	late := s.meter(Rate{Rate: 7, Burst: 3}, noon)
	require.Zero(t, late.rateID)
	require.False(t, d.Take(ref, late, noon, 0))
	require.True(t, d.Take(ref, late, noon+1e9, 0))
	require.True(t, d.Take(ref, first, noon+1e9, 0), "back again: what an unknown rate left counts in time")
}

func testLimitsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	v := atRate(Rate{Rate: 1e6, Burst: 10})
	d := NewBudgets(BudgetOptions{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 20_000 {
				name := fmt.Appendf(nil, "acme/dev-%d", i%50)
				set := v.current.Load()
				d.Take(d.Receive(name, noon+int64(i)), set.OfDevice([]byte("acme"), name[5:]).Meter, noon+int64(i), 0)
			}
		})
	}
	for i := range 500 {
		v.SetOverrides([]Override{{Tenant: "acme", Device: fmt.Sprintf("dev-%d", i%50), Rate: Rate{Rate: float64(i + 1), Burst: i + 1}}})
		v.edit(func(l *Limits) { l.Device = Rate{Rate: float64(1 + i%7), Burst: 5} })
		v.Snapshot().OfDevice([]byte("acme"), []byte("dev-1"))
		d.Top(3, ByReceived, v)
	}
	wait.Wait()
	require.Equal(t, 50, d.Len())
}
