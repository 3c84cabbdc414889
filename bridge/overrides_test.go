package bridge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

// over replaces the overrides of a lane.
func (s *script) over(all ...limit.Override) { s.opts.Limits.SetOverrides(all) }

func TestLimitOverride(t *testing.T) {
	t.Parallel()
	t.Run("override applies to its device only", testOverrideAppliesToItsDeviceOnly)
	t.Run("raised limit applies immediately", testRaisedLimitAppliesImmediately)
	t.Run("spent bucket stays spent", testSpentBucketStaysSpent)
	t.Run("quiet device may send the new burst", testQuietDeviceMaySendTheNewBurst)
	t.Run("limit set again changes nothing", testLimitSetAgainChangesNothing)
}

func testOverrideAppliesToItsDeviceOnly(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 2))
	s.over(
		limit.Override{Tenant: "acme", Device: "fast", Rate: limit.Rate{Rate: 1, Burst: 7}},
		limit.Override{Tenant: "acme", Devices: true, Rate: limit.Rate{Rate: 1, Burst: 4}},
		limit.Override{Tenant: "free", Devices: true},
		limit.Override{Tenant: "small", Rate: limit.Rate{Rate: 1, Burst: 3}},
	)
	for name, want := range map[string]uint64{
		"acme/fast": 7, "acme/other": 4, "free/any": 10, "other/fast": 2, "small/a": 2, "small/b": 1,
	} {
		if name == "small/a" || name == "small/b" {
			continue // they share one budget and are tested below, in order
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
	rate := func(tenant, device string) limit.Rate {
		return s.opts.Limits.Snapshot().OfDevice([]byte(tenant), []byte(device)).Rate
	}
	require.Equal(t, limit.Rate{Rate: 1, Burst: 7}, rate("acme", "fast"))
	require.Equal(t, limit.Rate{Rate: 1, Burst: 3}, s.opts.Limits.Snapshot().OfTenant([]byte("small")).Rate)
	require.Equal(t, limit.Rate{Rate: 1, Burst: 2}, rate("small", "a"))
	d, ok := s.opts.Devices.Lookup("acme", "fast", s.opts.Limits)
	require.True(t, ok)
	require.Equal(t, &limit.Rate{Rate: 1, Burst: 7}, d.Limit)
	s.over()
	require.Equal(t, limit.Rate{Rate: 1, Burst: 2}, rate("acme", "fast"))
}

// Otherwise a device would wait for the ten hours that its ten messages took under the old limit.
func testRaisedLimitAppliesImmediately(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Second, time.Hour} {
		s := play(t, limited(1.0/3600, 10))
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(10), s.accepted())
		s.over(limit.Override{Tenant: "acme", Device: "dev-1", Rate: limit.Rate{Rate: 50, Burst: 200}})
		s.tick(pause)
		s.send(300, "acme/dev-1")
		require.Equal(t, uint64(10+min(200, int(50*pause.Seconds()))), s.accepted(), "it gains from the change on, message or none")
		s.tick(time.Second)
		s.send(60, "acme/dev-1")
		require.Equal(t, uint64(10+min(200, int(50*pause.Seconds()))+50), s.accepted())
	}
}

// A change yields no extra budget: the used budget stays used.
func testSpentBucketStaysSpent(t *testing.T) {
	t.Parallel()
	for _, next := range []limit.Rate{{Rate: 1, Burst: 10}, {Rate: 1, Burst: 1000}, {Rate: 1.0 / 3600, Burst: 3}, {Rate: 50, Burst: 1000}} {
		s := play(t, limited(50, 200))
		s.send(300, "acme/dev-1")
		require.Equal(t, uint64(200), s.accepted())
		s.over(limit.Override{Tenant: "acme", Devices: true, Rate: next})
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(200), s.accepted(), "%+v", next)
		s.tick(time.Duration(2.5 * float64(time.Second) / next.Rate))
		s.send(20, "acme/dev-1")
		require.Equal(t, uint64(202), s.accepted(), "%+v", next)
	}
}

func testQuietDeviceMaySendTheNewBurst(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 2))
	s.send(1, "acme/dev-1")
	s.tick(time.Minute)
	s.over(limit.Override{Tenant: "acme", Device: "dev-1", Rate: limit.Rate{Rate: 1, Burst: 100}})
	s.send(150, "acme/dev-1")
	require.Equal(t, uint64(101), s.accepted())
}

func testLimitSetAgainChangesNothing(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 10))
	o := limit.Override{Tenant: "acme", Device: "dev-1", Rate: limit.Rate{Rate: 1, Burst: 10}}
	s.send(6, "acme/dev-1")
	for range 5 {
		s.over(o, limit.Override{Tenant: "other", Rate: limit.Rate{Rate: 1, Burst: 1}})
		s.over()
	}
	s.send(10, "acme/dev-1")
	require.Equal(t, uint64(10), s.accepted())
}

func TestLimitChange(t *testing.T) {
	t.Parallel()
	t.Run("new quarantine bound applies", testNewQuarantineBoundApplies)
	t.Run("new payload limit applies", testNewPayloadLimitApplies)
}

func testNewQuarantineBoundApplies(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1.0 / 3600, Burst: 2} })
	})
	for id := range 5 {
		s.deliver(uint16(id+1), noDevice, "x")
	}
	require.Len(t, s.stream.all(), 2)
	edit(s.opts.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 10} })
	s.deliver(6, noDevice, "x")
	require.Len(t, s.stream.all(), 2, "spent stays spent")
	s.tick(time.Second)
	s.deliver(7, noDevice, "x")
	require.Len(t, s.stream.all(), 3)
}

func testNewPayloadLimitApplies(t *testing.T) {
	t.Parallel()
	s := play(t)
	edit(s.opts.Limits, func(l *limit.Limits) { l.MaxPayload = 3 })
	s.deliver(1, telemetry, "four")
	require.Equal(t, "fou", s.only().payload)
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.PayloadTooLarge])
	edit(s.opts.Limits, func(l *limit.Limits) { l.MaxPayload = 4 })
	s.deliver(2, telemetry, "four")
	require.Equal(t, telemetrySubject, s.last().subject)
	require.ErrorContains(t, s.opts.Limits.Set(limit.Limits{}), "not positive")
}
