package bridge

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge/verdict"
)

// over replaces the overrides of a lane.
func (s *script) over(all ...Override) { s.opts.Limits.SetOverrides(all) }

func TestAnOverrideHoldsForWhomItNames(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 2))
	s.over(
		Override{Tenant: "acme", Device: "fast", Rate: Rate{Rate: 1, Burst: 7}},
		Override{Tenant: "acme", Devices: true, Rate: Rate{Rate: 1, Burst: 4}},
		Override{Tenant: "free", Devices: true},
		Override{Tenant: "small", Rate: Rate{Rate: 1, Burst: 3}},
	)
	for name, want := range map[string]uint64{
		"acme/fast": 7, "acme/other": 4, "free/any": 10, "other/fast": 2, "small/a": 2, "small/b": 1,
	} {
		if name == "small/a" || name == "small/b" {
			continue // they share one budget: below, in order
		}
		before := s.accepted()
		s.send(10, name)
		require.Equal(t, want, s.accepted()-before, name)
	}
	for _, name := range []string{"small/a", "small/b"} {
		before := s.accepted()
		s.send(10, name)
		require.Equal(t, map[string]uint64{"small/a": 2, "small/b": 1}[name], s.accepted()-before, name)
	}
	require.Equal(t, Rate{Rate: 1, Burst: 7}, s.opts.Limits.Device("acme", "fast"))
	require.Equal(t, Rate{Rate: 1, Burst: 3}, s.opts.Limits.Tenant("small"))
	require.Equal(t, Rate{Rate: 1, Burst: 2}, s.opts.Limits.Device("small", "a"))
	d, ok := s.opts.Devices.Lookup("acme", "fast", s.opts.Limits)
	require.True(t, ok)
	require.Equal(t, &Rate{Rate: 1, Burst: 7}, d.Limit)
	s.over()
	require.Equal(t, Rate{Rate: 1, Burst: 2}, s.opts.Limits.Device("acme", "fast"))
}

// The other way round a device would stand still for the ten hours that its ten
// messages took under the old limit.
func TestARaisedLimitHoldsAtOnce(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Second, time.Hour} {
		s := play(t, limited(1.0/3600, 10))
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(10), s.accepted())
		s.over(Override{Tenant: "acme", Device: "dev-1", Rate: Rate{Rate: 50, Burst: 200}})
		s.tick(pause)
		s.send(300, "acme/dev-1")
		require.Equal(t, uint64(10+min(200, int(50*pause.Seconds()))), s.accepted(), "it gains from the change on, message or none")
		s.tick(time.Second)
		s.send(60, "acme/dev-1")
		require.Equal(t, uint64(10+min(200, int(50*pause.Seconds()))+50), s.accepted())
	}
}

// A change gives nothing away: what was spent stays spent.
func TestASpentBucketStaysSpent(t *testing.T) {
	t.Parallel()
	for _, next := range []Rate{{Rate: 1, Burst: 10}, {Rate: 1, Burst: 1000}, {Rate: 1.0 / 3600, Burst: 3}, {Rate: 50, Burst: 1000}} {
		s := play(t, limited(50, 200))
		s.send(300, "acme/dev-1")
		require.Equal(t, uint64(200), s.accepted())
		s.over(Override{Tenant: "acme", Devices: true, Rate: next})
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(200), s.accepted(), "%+v", next)
		s.tick(time.Duration(2.5 * float64(time.Second) / next.Rate))
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(202), s.accepted(), "%+v", next)
	}
}

func TestAQuietDeviceMaySendTheNewBurst(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 2))
	s.send(1, "acme/dev-1")
	s.tick(time.Minute)
	s.over(Override{Tenant: "acme", Device: "dev-1", Rate: Rate{Rate: 1, Burst: 100}})
	s.send(150, "acme/dev-1")
	require.Equal(t, uint64(101), s.accepted())
}

func TestALimitThatIsSetAgainChangesNothing(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 10))
	o := Override{Tenant: "acme", Device: "dev-1", Rate: Rate{Rate: 1, Burst: 10}}
	s.send(6, "acme/dev-1")
	for range 5 {
		s.over(o, Override{Tenant: "other", Rate: Rate{Rate: 1, Burst: 1}})
		s.over()
	}
	s.send(10, "acme/dev-1")
	require.Equal(t, uint64(10), s.accepted())
}

// Whatever an operator changes, a device passes no more than a bucket that keeps
// its content: never over the new burst, growing at the rate in force.
func TestChangedRatesLetNoMoreThroughThanAKeptBucket(t *testing.T) {
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
		v, err := NewLiveLimits(Limits{MaxPayload: 1, Device: r}, func() int64 { return now })
		require.NoError(t, err)
		d := NewBudgets(BudgetOptions{})
		// Of the model, in messages. They differ where the bucket is full but for a rounding
		// error when the rate changes.
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
			ref := d.receive([]byte("a/b"), now)
			if d.take(ref, v.current.Load().device.meter, now, 0) {
				low, high = low-1, high-1
				require.GreaterOrEqual(t, high, -1e-2, "one too many")
			} else {
				require.Less(t, low, 1+1e-2, "one too few")
			}
			low, high = max(low, 0), max(high, 0)
		}
	})
}

func TestTheQuarantineBoundMayChange(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		o.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1.0 / 3600, Burst: 2} })
	})
	for id := range 5 {
		s.deliver(uint16(id+1), noDevice, "x")
	}
	require.Len(t, s.stream.all(), 2)
	s.opts.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1, Burst: 10} })
	s.deliver(6, noDevice, "x")
	require.Len(t, s.stream.all(), 2, "spent stays spent")
	s.tick(time.Second)
	s.deliver(7, noDevice, "x")
	require.Len(t, s.stream.all(), 3)
}

func TestThePayloadLimitMayChange(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.opts.Limits.edit(func(l *Limits) { l.MaxPayload = 3 })
	s.deliver(1, telemetry, "four")
	require.Equal(t, "fou", s.only().payload)
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.PayloadTooLarge])
	s.opts.Limits.edit(func(l *Limits) { l.MaxPayload = 4 })
	s.deliver(2, telemetry, "four")
	require.Equal(t, telemetrySubject, s.last().subject)
	require.ErrorContains(t, s.opts.Limits.Set(Limits{}), "not positive")
}

// More rates than a number has room for: nobody waits longer than for a full
// bucket.
func TestRatesWithoutANumberStillHold(t *testing.T) {
	t.Parallel()
	var s rateIDs
	first := s.meter(Rate{Rate: 1.0 / 3600, Burst: 10}, noon)
	for i := range maxRateIDs + 100 {
		s.meter(Rate{Rate: 1, Burst: i + 1}, noon)
	}
	require.Len(t, *s.table.Load(), maxRateIDs+1)
	d := NewBudgets(BudgetOptions{})
	ref := d.receive([]byte("a/b"), noon)
	for range 10 {
		require.True(t, d.take(ref, first, noon, 0))
	}
	late := s.meter(Rate{Rate: 7, Burst: 3}, noon)
	require.Zero(t, late.rateID)
	require.False(t, d.take(ref, late, noon, 0))
	require.True(t, d.take(ref, late, noon+1e9, 0))
	require.True(t, d.take(ref, first, noon+1e9, 0), "back again: what an unknown rate left counts in time")
}

func TestLimitsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	v := atRate(Rate{Rate: 1e6, Burst: 10})
	d := NewBudgets(BudgetOptions{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 20_000 {
				name := fmt.Appendf(nil, "acme/dev-%d", i%50)
				set := v.current.Load()
				d.take(d.receive(name, noon+int64(i)), set.ofDevice([]byte("acme"), name[5:]).meter, noon+int64(i), 0)
			}
		})
	}
	for i := range 500 {
		v.SetOverrides([]Override{{Tenant: "acme", Device: fmt.Sprintf("dev-%d", i%50), Rate: Rate{Rate: float64(i + 1), Burst: i + 1}}})
		v.edit(func(l *Limits) { l.Device = Rate{Rate: float64(1 + i%7), Burst: 5} })
		v.Device("acme", "dev-1")
		d.Top(3, ByReceived, v)
	}
	wait.Wait()
	require.Equal(t, 50, d.Len())
}
