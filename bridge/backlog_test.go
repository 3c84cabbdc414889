package bridge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
)

// lanes are several lanes of one bridge that share the tables and the limits.
func lanes(t tester, n int, adjust ...func(*LaneOptions)) []*script {
	all := []*script{play(t, adjust...)}
	for range n - 1 {
		share := func(o *LaneOptions) {
			first := all[0].opts
			o.Devices, o.Tenants, o.Limits = first.Devices, first.Tenants, first.Limits
		}
		all = append(all, play(t, append(slices.Clone(adjust), share)...))
	}
	return all
}

func tenantLimited(rate float64, burst int) func(*LaneOptions) {
	return func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Tenant = limit.Rate{Rate: rate, Burst: burst} })
	}
}

func rejectedBy(all []*script) (n uint64) {
	for _, s := range all {
		n += s.rejected()
	}
	return n
}

// The backlog is one hour of a tenant that used a ninth of its limit. Sixteen lanes drain it one
// after the other, or in random order.
func TestTenantBacklog(t *testing.T) {
	t.Parallel()
	const count, devices = 20_000, 48
	for name, order := range map[string]func(all []*script, sent [][]int64) (lane int){
		"lane after lane": func(_ []*script, sent [][]int64) int {
			return slices.IndexFunc(sent, func(s []int64) bool { return len(s) > 0 })
		},
		"at random": func(all []*script, sent [][]int64) int {
			for {
				if i := rand.IntN(len(all)); len(sent[i]) > 0 {
					return i
				}
			}
		},
	} {
		for factor, want := range map[int64]uint64{1: 0, 90: 1} { // the same messages in 1/factor of the time
			t.Run(fmt.Sprintf("%s, %d times the rate", name, factor), func(t *testing.T) {
				t.Parallel()
				all := lanes(t, 16, attested(t), tenantLimited(50, 100))
				sent := make([][]int64, len(all))
				length := int64(time.Hour) / factor
				for i := range int64(count) {
					lane := int(i%devices) % len(all)
					sent[lane] = append(sent[lane], noon-length+i*length/count)
				}
				for range count {
					i := order(all, sent)
					device := fmt.Sprintf("acme/dev-%d", i)
					all[i].sendAt(sent[i][0], device, device)
					sent[i] = sent[i][1:]
				}
				if want == 0 {
					require.Zero(t, rejectedBy(all))
					return
				}
				// 500 per second for 40 s: messages over the limit are still refused.
				accepted := count - int64(rejectedBy(all))
				require.InDelta(t, 100+50*40, accepted, 0.15*(100+50*40))
			})
		}
	}
}

func TestBrokerClockAhead(t *testing.T) {
	t.Parallel()
	t.Run("harms no other device of the tenant", func(t *testing.T) {
		t.Parallel()
		all := lanes(t, 4, attested(t), tenantLimited(10, 20))
		all[0].sendAt(noon+int64(290*time.Second), "acme/ahead", "acme/ahead")
		for i := range 1200 {
			s := all[i%len(all)]
			for _, lane := range all {
				lane.now = noon + int64(i)*int64(250*time.Millisecond)
			}
			s.sendAt(s.now-int64(i%7)*1e6, "acme/dev-1", "acme/dev-1")
		}
		require.Zero(t, rejectedBy(all))
	})
	t.Run("device moves to another node", func(t *testing.T) {
		t.Parallel()
		for _, skew := range []time.Duration{290 * time.Second, 2 * time.Second, time.Second, -2 * time.Second, -290 * time.Second, -time.Hour} {
			s := play(t, attested(t), limited(10, 20))
			for i := range 600 {
				at := s.now
				if i%200 < 100 {
					at += int64(skew)
				}
				s.sendAt(at, "acme/dev-1", "acme/dev-1")
				s.tick(125 * time.Millisecond)
			}
			require.Zero(t, s.rejected(), skew)
		}
	})
	t.Run("gives no budget away", func(t *testing.T) {
		t.Parallel()
		for _, skew := range []time.Duration{290 * time.Second, -2 * time.Second, -290 * time.Second} {
			s := play(t, attested(t), limited(10, 20))
			for i := range 2000 {
				s.sendAt(s.now+int64(i%2)*int64(skew), "acme/dev-1", "acme/dev-1")
				s.tick(10 * time.Millisecond)
			}
			require.LessOrEqual(t, s.accepted(), uint64(20+10*(20+2)), skew)
		}
	})
}

// backlog delivers messages that devices sent at one per second each, in real time since the
// beginning of the outage. It runs at a multiple of that rate until it has caught up, then at the
// devices' own rate. Each message is stored before the next one.
type backlog struct {
	*script
	devices int
	sent    int64 // number of messages so far
	from    int64 // start of the outage
}

func (b *backlog) deliver(n int) {
	for range n {
		b.send(1, fmt.Sprintf("acme/dev-%d", b.sent%int64(b.devices)))
		b.stream.store(0)
		b.stream.messages = b.stream.messages[:0]
		b.sent++
	}
}

// behind returns the number of messages that wait in the broker.
func (b *backlog) behind() int64 {
	return (b.now-b.from)/int64(time.Second)*int64(b.devices) - b.sent
}

func TestPlainBacklog(t *testing.T) {
	t.Parallel()
	const devices = 10
	for _, c := range []struct {
		outage  time.Duration
		speed   int
		tenants float64
	}{
		{2 * time.Hour, 20, 0}, {2 * time.Hour, 2, 0}, {20 * time.Second, 30, 0}, {20 * time.Minute, 5, 12},
	} {
		t.Run(fmt.Sprintf("%v at %d times the rate", c.outage, c.speed), func(t *testing.T) {
			t.Parallel()
			s := play(t, limited(1.5, 3), tenantLimited(c.tenants, 20))
			b := &backlog{script: s, devices: devices, from: s.now}
			s.Disconnected(s.conn)
			s.conn = nil
			s.tick(c.outage)
			s.connect(true)
			for b.behind() > 0 {
				for range 10 { // for one second
					b.deliver(devices * c.speed / 10)
					s.tick(100 * time.Millisecond)
				}
			}
			require.Zero(t, s.rejected())
			for range 60 { // live, at the devices' own rate
				for range 10 {
					b.deliver(devices / 10)
					s.tick(100 * time.Millisecond)
				}
			}
			require.Zero(t, s.rejected())
			require.False(t, s.Counts().CatchingUp)
			require.Zero(t, s.opts.Tenants.LongestCredit())
			s.send(10, "acme/dev-0")
			require.GreaterOrEqual(t, s.rejected(), uint64(7), "as before the outage")
		})
	}
	t.Run("a device that sent too much is limited", func(t *testing.T) {
		t.Parallel()
		s := play(t, limited(1, 5))
		s.Disconnected(s.conn)
		s.conn = nil
		s.tick(10 * time.Minute)
		s.connect(true)
		b := &backlog{script: s, devices: 1}
		b.deliver(6000)
		require.InDelta(t, 605, s.accepted(), 1)
	})
	t.Run("two lanes share the tenant's budget", func(t *testing.T) {
		t.Parallel()
		all := lanes(t, 2, tenantLimited(20, 40))
		for _, s := range all {
			s.Disconnected(s.conn)
			s.conn = nil
			s.tick(time.Hour)
			s.connect(true)
		}
		quick, slow := &backlog{script: all[0], devices: 9}, &backlog{script: all[1], devices: 9}
		quick.deliver(9 * 3600)
		for range 600 {
			for range 10 {
				quick.deliver(1)
				slow.deliver(6) // at seven times the original rate
				quick.tick(100 * time.Millisecond)
				slow.tick(100 * time.Millisecond)
			}
		}
		require.Zero(t, rejectedBy(all))
	})
	t.Run("JetStream that stalls does not end it", func(t *testing.T) {
		t.Parallel()
		s := play(t, limited(1.5, 3))
		s.Disconnected(s.conn)
		s.conn = nil
		s.tick(time.Hour)
		s.connect(true)
		b := &backlog{script: s, devices: 10}
		for i := range 180 {
			if i%60 == 59 {
				s.send(1, "acme/dev-0")
				s.tick(20 * time.Second)
				s.stream.store(0)
				s.stream.messages = s.stream.messages[:0]
			}
			for range 10 {
				b.deliver(20)
				s.tick(100 * time.Millisecond)
			}
		}
		require.Zero(t, s.rejected())
	})
}
