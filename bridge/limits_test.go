package bridge

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

// limited sets the device limit.
func limited(rate float64, burst int) func(*LaneOptions) {
	return func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Device = limit.Rate{Rate: rate, Burst: burst} })
	}
}

// accepted counts the messages that were not rejected.
func (s *script) accepted() uint64 {
	return s.Counts().Received - s.rejected()
}

func (s *script) rejected() (n uint64) {
	for _, v := range s.Counts().Rejected {
		n += v
	}
	return n
}

// send delivers n messages of a device under fresh packet ids, on a plain topic.
func (s *script) send(n int, name string) {
	for range n {
		s.deliver(uint16(s.Counts().Received)+1, deviceTopic(name), "same")
	}
}

// sendAt delivers an attested message that the broker received at that time.
func (s *script) sendAt(at int64, cn, name string) {
	n := s.Counts().Received + 1
	s.deliver(uint16(n), vouched(fmt.Sprintf("id%d", n), at, cn, deviceTopic(name)), "same")
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	t.Run("each device has its own budget", testEachDeviceHasItsOwnBudget)
	t.Run("backlog is checked by broker time", testBacklogIsCheckedByBrokerTime)
	t.Run("clock never runs backward", testClockNeverRunsBackward)
	t.Run("impostor does not use up rate of its victim", testImpostorDoesNotUseUpRateOfItsVictim)
	t.Run("redelivery is never charged twice", testRedeliveryIsNeverChargedTwice)
	t.Run("tenant limit refunds the device", testTenantLimitRefundsTheDevice)
}

func testEachDeviceHasItsOwnBudget(t *testing.T) {
	t.Parallel()
	s := play(t, limited(10, 20))
	s.send(30, "acme/loud")
	require.Equal(t, uint64(10), s.Counts().Rejected[verdict.RateLimited])
	require.Equal(t, "quarantine.rate_limited.tenant.acme.device.loud.telemetry", s.last().subject)
	s.send(20, "acme/quiet")
	require.Equal(t, uint64(10), s.Counts().Rejected[verdict.RateLimited])
	s.tick(time.Second)
	s.send(11, "acme/loud")
	require.Equal(t, uint64(11), s.Counts().Rejected[verdict.RateLimited])
}

// An outage must not destroy data: a device sent messages evenly for ten minutes, all of them
// arrive in one second, and only the broker's timestamps prove it.
func testBacklogIsCheckedByBrokerTime(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t), limited(1, 2))
	for i := range int64(600) {
		s.sendAt(noon-(600-i)*1e9, "acme/dev-1", "acme/dev-1")
	}
	require.Zero(t, s.rejected())
	for range 3 {
		s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	}
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.RateLimited])
}

func TestRateLimitBrokerClockAhead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ahead time.Duration
		want  uint64
	}{
		// Budget spent on future timestamps is not available now.
		"within a second": {time.Second, 0},
		"beyond":          {time.Second + time.Millisecond, 1},
		"five minutes":    {5 * time.Minute, 1},
		"a year":          {8766 * time.Hour, 1},
		"the end of time": {292 * 8766 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, attested(t), limited(1, 1))
			s.sendAt(noon+int64(c.ahead)%(1<<62), "acme/dev-1", "acme/dev-1")
			s.tick(time.Second)
			s.sendAt(s.now, "acme/dev-1", "acme/dev-1")
			require.Equal(t, 1+c.want, s.accepted())
		})
	}
}

func testClockNeverRunsBackward(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t), limited(1, 5))
	for i := range int64(50) {
		// Alternating the limits yields no extra budget.
		s.sendAt(noon-(i%2)*60e9, "acme/dev-1", "acme/dev-1")
	}
	require.Equal(t, uint64(5), s.accepted())
}

// The bridge's own clock can be set back. A device whose last timestamp is in the future must not
// be blocked until the clock reaches that time.
func TestRateLimitClockSetBack(t *testing.T) {
	t.Parallel()
	for name, adjust := range map[string][]func(*LaneOptions){
		"plain": {limited(1, 2)},
		"tenant": {func(o *LaneOptions) {
			edit(o.Limits, func(l *limit.Limits) { l.Tenant = limit.Rate{Rate: 1, Burst: 2} })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, adjust...)
			s.tick(8766 * time.Hour)
			s.send(5, "acme/dev-1")
			require.Equal(t, uint64(2), s.accepted())
			s.tick(-8766 * time.Hour)
			for range 10 {
				s.tick(time.Second)
				s.send(1, "acme/dev-1")
			}
			require.Equal(t, uint64(12), s.accepted())
		})
	}
}

// If a broker's clock is set back by an hour, the budget that its devices have used stays
// used, and no well-behaved device waits an hour for its next message.
func TestRateLimitBrokerClockSetBack(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{2 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 8766 * time.Hour} {
		s := play(t, attested(t), limited(1, 5))
		for range 7 {
			s.sendAt(s.now, "acme/dev-1", "acme/dev-1")
		}
		require.Equal(t, uint64(5), s.accepted())
		s.sendAt(s.now-int64(back), "acme/dev-1", "acme/dev-1")
		require.Equal(t, uint64(5), s.accepted(), "this yields no extra budget")
		for range 60 {
			s.tick(time.Second)
			s.sendAt(s.now-int64(back), "acme/dev-1", "acme/dev-1")
		}
		require.Equal(t, uint64(65), s.accepted(), back)

		// The quarantine bound does not block it either.
		s = play(t, attested(t), limited(1, 1), func(o *LaneOptions) {
			edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 1} })
		})
		for range 3 {
			s.sendAt(s.now, "acme/dev-1", "acme/dev-1")
		}
		require.Equal(t, uint64(1), s.Counts().QuarantineSkipped)
		s.tick(time.Minute)
		for range 3 {
			s.sendAt(s.now-int64(time.Minute+back), "acme/dev-1", "acme/dev-1")
		}
		require.Equal(t, uint64(3), s.Counts().QuarantineSkipped, "one of three is stored")
	}
}

func testImpostorDoesNotUseUpRateOfItsVictim(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t), limited(1, 3), func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 2} })
		edit(o.Limits, func(l *limit.Limits) { l.Tenant = limit.Rate{Rate: 1, Burst: 4} })
	})
	for range 100 {
		s.sendAt(noon, "acme/impostor", "acme/victim")
	}
	require.Len(t, s.stream.all(), 2, "the impostor's own quarantine bound")
	for range 3 {
		s.sendAt(noon, "acme/victim", "acme/victim")
	}
	require.Equal(t, uint64(3), s.accepted())
	s.sendAt(noon, "acme/victim", "acme/victim")
	require.Equal(t, "quarantine.rate_limited.tenant.acme.device.victim.telemetry", s.last().subject,
		"the victim's quarantine bound is its own, too")
	impostor, ok := s.opts.Devices.Lookup("acme", "impostor", s.opts.Limits)
	require.True(t, ok)
	require.Equal(t, map[string]uint64{"cn_mismatch": 100}, impostor.Rejected)
	victim, ok := s.opts.Devices.Lookup("acme", "victim", s.opts.Limits)
	require.True(t, ok)
	require.Equal(t, uint64(4), victim.Received)
}

func testRedeliveryIsNeverChargedTwice(t *testing.T) {
	t.Parallel()
	j := journal.New()
	keep := func(o *LaneOptions) { o.Journal = j }
	s := play(t, limited(1, 2), keep)
	s.catchUp = limit.NewCatchUp(s.opts.Tenants)
	s.deliver(7, "elsewhere", "the first of this numbering")
	s.stream.store(0)
	s.deliver(8, telemetry, "a")
	for range 3 {
		s.connect(true)
		s.catchUp = limit.NewCatchUp(s.opts.Tenants)
		s.deliver(8, telemetry, "a", dup)
	}
	s.stream.store(1)
	s.connect(true)
	s.catchUp = limit.NewCatchUp(s.opts.Tenants)
	s.deliver(8, telemetry, "a", dup)
	s.deliver(9, telemetry, "b")
	require.Equal(t, uint64(2), s.accepted())

	// A bridge is killed before the answer to b. The table of devices outlives it here, so that a
	// charge would be visible.
	again := play(t, limited(1, 2), keep, func(o *LaneOptions) { o.Devices = s.opts.Devices })
	again.catchUp = limit.NewCatchUp(again.opts.Tenants)
	again.deliver(9, telemetry, "b", dup)
	require.Equal(t, uint64(1), again.accepted())
	require.Equal(t, s.last().id, again.only().id)
}

func TestCatchUpCredit(t *testing.T) {
	t.Parallel()
	t.Run("plain topics get credit for an outage", testPlainTopicsGetCreditForAnOutage)
	t.Run("delayed ring gives credit", testDelayedRingGivesCredit)
	t.Run("attested topics get no credit", testAttestedTopicsGetNoCredit)
}

func testPlainTopicsGetCreditForAnOutage(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 5))
	s.send(5, "acme/dev-1")
	s.Disconnected(s.conn)
	s.tick(10 * time.Minute)
	s.conn = nil
	s.connect(true)
	require.True(t, s.Counts().CatchingUp)
	s.send(600, "acme/dev-1") // with the five before: the burst, and the rate times the outage
	require.Zero(t, s.rejected())
	s.send(10, "acme/dev-1")
	require.Equal(t, uint64(10), s.rejected(), "the credit is used up")
	for i := range s.stream.all() {
		s.stream.store(i)
	}
	s.tick(11 * time.Minute)
	require.False(t, s.Counts().CatchingUp)
	for range 5 {
		s.send(2, "acme/dev-1")
		s.stream.store(len(s.stream.all()) - 1)
	}
	require.Equal(t, uint64(15), s.rejected(), "caught up: the burst applies again")
}

func testDelayedRingGivesCredit(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 5))
	s.send(5, "acme/dev-1")
	s.tick(time.Minute)
	s.stream.store(0) // JetStream was unreachable for a minute
	s.send(65, "acme/dev-1")
	require.Equal(t, uint64(5), s.rejected(), "the minute gives credit for 60 messages")
}

func testAttestedTopicsGetNoCredit(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t), limited(1, 5))
	s.tick(time.Hour)
	s.connect(true)
	for range 10 {
		s.sendAt(s.now, "acme/dev-1", "acme/dev-1")
	}
	require.Equal(t, uint64(5), s.accepted())
}

func testTenantLimitRefundsTheDevice(t *testing.T) {
	t.Parallel()
	s := play(t, limited(1, 3), func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Tenant = limit.Rate{Rate: 1, Burst: 4} })
	})
	s.send(2, "acme/a")
	s.send(2, "acme/b")
	s.send(5, "acme/c")
	require.Equal(t, uint64(5), s.Counts().Rejected[verdict.TenantRateLimited])
	require.Equal(t, "quarantine.tenant_rate_limited.tenant.acme.device.c.telemetry", s.last().subject)
	c, ok := s.opts.Devices.Lookup("acme", "c", s.opts.Limits)
	require.True(t, ok)
	require.Equal(t, 3, c.TokensLeft)
	s.send(3, "other/c")
	require.Equal(t, uint64(7), s.accepted(), "another tenant's budget is its own")
	s.send(3, "acme/a") // the last one of the device is refunded each time
	require.Equal(t, uint64(8), s.Counts().Rejected[verdict.TenantRateLimited])
	require.Zero(t, s.Counts().Rejected[verdict.RateLimited])
}
