package limit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge/verdict"
)

func TestBudgets(t *testing.T) {
	t.Parallel()
	t.Run("counts are kept per device", testCountsAreKeptPerDevice)
	t.Run("late settle of evicted device is ignored", testLateSettleOfEvictedDeviceIsIgnored)
	t.Run("idle devices are evicted", testIdleDevicesAreEvicted)
	t.Run("full table evicts the longest idle device", testFullTableEvictsTheLongestIdleDevice)
	t.Run("deletion keeps colliding devices findable", testDeletionKeepsCollidingDevicesFindable)
	t.Run("concurrent lanes are safe", testConcurrentLanesAreSafe)
	t.Run("top ranks by the requested count", testTopRanksByTheRequestedCount)
	t.Run("space of evicted devices is reused", testSpaceOfEvictedDevicesIsReused)
}

func testCountsAreKeptPerDevice(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{})
	now := time.Now().UnixNano()
	limit := Rate{Rate: 1, Burst: 5}
	for _, name := range []string{"acme/dev-1", "acme/" + strings.Repeat("x", 300), "acme/a/b", "/"} {
		for i := range 3 {
			r := d.Receive([]byte(name), now)
			require.True(t, d.Take(r, limit.meter(), now, 0))
			if i > 0 {
				d.Stored(r)
			} else {
				d.Reject(r, verdict.BadPayload, Meter{}, now, 0)
			}
		}
		tenant, device, _ := strings.Cut(name, "/")
		got, ok := d.Lookup(tenant, device, atRate(limit))
		require.True(t, ok)
		require.Equal(t, uint64(1), got.Rejections())
		require.InDelta(t, 2, got.TokensLeft, 1)
		require.Equal(t, &limit, got.Limit)
		got.TokensLeft, got.Limit, got.rejected = 0, nil, 0
		require.Equal(t, Device{
			Tenant: tenant, Device: device, Received: 3, Stored: 2,
			Rejected: map[string]uint64{"bad_payload": 1}, LastSeen: time.Unix(now/1e9, 0).UTC(),
		}, got)
	}
	_, ok := d.Lookup("acme", "dev-2", atRate(limit))
	require.False(t, ok)
	require.Equal(t, 4, d.Len())
	require.Zero(t, d.Evicted())
}

func testLateSettleOfEvictedDeviceIsIgnored(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{})
	r := d.Receive([]byte("acme/dev-1"), noon)
	s := d.shard(r.Hash)
	s.mu.Lock()
	d.forget(s, r.entry)
	s.mu.Unlock()
	other := d.insertWithHash(r.Hash+1<<57, "acme/dev-2") // reuses the entry
	require.Equal(t, r.entry, other)
	m := Rate{Rate: 1, Burst: 1}.meter()
	d.Stored(r)
	d.Refund(r, m)
	require.True(t, d.Take(r, m, noon, 0))
	require.True(t, d.Reject(r, verdict.BadTopic, m, noon, 0))
	d.Stored(Ref{})
	require.Zero(t, s.at(other).stored)
	require.Zero(t, s.at(other).rejects)
}

// insertWithHash adds a device with a hash that the test chooses.
func (d *Budgets) insertWithHash(hash uint64, name string) uint32 {
	s := d.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.insert(s, hash, []byte(name), noon)
}

func testIdleDevicesAreEvicted(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{Idle: time.Hour})
	crowd := func(name string, at time.Duration) {
		for i := range 10_000 {
			d.Receive(fmt.Appendf(nil, "acme/%s-%d", name, i), noon+int64(at))
		}
	}
	crowd("old", 0)
	d.SetIdle(2 * time.Hour)
	crowd("new", 61*time.Minute)
	require.Equal(t, 20_000, d.Len(), "not yet idle")
	d.SetIdle(time.Hour)
	crowd("newer", 62*time.Minute)
	crowd("newest", 62*time.Minute)
	require.Less(t, d.Len(), 32_000)
	require.Equal(t, uint64(40_000-d.Len()), d.Evicted())
	for i := range 10_000 {
		_, ok := d.Lookup("acme", fmt.Sprintf("new-%d", i), unlimited())
		require.True(t, ok, "one in use was forgotten")
	}
}

func testFullTableEvictsTheLongestIdleDevice(t *testing.T) {
	t.Parallel()
	const Limit = 64 * 100
	d := NewBudgets(BudgetOptions{Max: Limit})
	m := Rate{Rate: 1, Burst: 1}.meter()
	for i := range 10 * Limit {
		at := noon + int64(i)*1e9
		r := d.Receive(fmt.Appendf(nil, "acme/dev-%d", i), at)
		d.Reject(r, verdict.BadTopic, m, at, 0)
		d.Receive([]byte("acme/busy"), at)
	}
	require.LessOrEqual(t, d.Len(), Limit)
	require.Greater(t, d.Len(), Limit*9/10)
	busy, ok := d.Lookup("acme", "busy", unlimited())
	require.True(t, ok)
	require.Equal(t, uint64(10*Limit), busy.Received)
	rejects := 0
	for i := range d.shards {
		rejects += len(d.shards[i].rejects)
		require.LessOrEqual(t, len(d.shards[i].entriesInUse()), int(d.shards[i].entries))
	}
	require.LessOrEqual(t, rejects, Limit, "what a device had is used again")
}

func (s *deviceShard) entriesInUse() (in []uint32) {
	for n := range s.entries {
		if s.at(n).used {
			in = append(in, n)
		}
	}
	return in
}

// The index is open-addressed: deletion must not break a run of colliding hashes.
func testDeletionKeepsCollidingDevicesFindable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := NewBudgets(BudgetOptions{Max: 1 << 20})
		s := &d.shards[0]
		model := map[uint64]uint32{}
		// The home places are few and at both ends of the index, so that runs are long and wrap
		// around.
		homes := rapid.SampledFrom([]uint64{0, 1, 2, 3, 13, 14, 15, 30, 31, 62, 63})
		for i := range rapid.IntRange(1, 150).Draw(t, "steps") {
			if len(model) == 0 || rapid.IntRange(0, 2).Draw(t, "what") > 0 {
				hash := homes.Draw(t, "home") | uint64(i+1)<<32
				model[hash] = d.insert(s, hash, fmt.Appendf(nil, "t/%d", hash), noon)
			} else {
				hashes := make([]uint64, 0, len(model))
				for n := range s.entries {
					if s.at(n).used {
						hashes = append(hashes, s.at(n).hash)
					}
				}
				hash := rapid.SampledFrom(hashes).Draw(t, "victim")
				d.forget(s, model[hash])
				delete(model, hash)
				_, ok := s.find(hash)
				require.False(t, ok)
			}
			for hash, want := range model {
				n, ok := s.find(hash)
				require.True(t, ok)
				require.Equal(t, want, n)
				require.Equal(t, fmt.Sprintf("t/%d", hash), s.nameOf(n))
			}
			require.Len(t, model, s.used)
			require.Len(t, model, d.Len())
		}
	})
}

func testConcurrentLanesAreSafe(t *testing.T) {
	t.Parallel()
	crowd(NewBudgets(BudgetOptions{Max: 64 * 20, Idle: time.Second})) // with evictions
	d := NewBudgets(BudgetOptions{})
	sent := crowd(d)
	shared, ok := d.Lookup("acme", "shared", unlimited())
	require.True(t, ok)
	require.Equal(t, uint64(sent), shared.Received)
}

// crowd uses a table from many lanes concurrently; all of them send for acme/shared.
func crowd(d *Budgets) (sent int) {
	m := Rate{Rate: 1, Burst: 10}.meter()
	const lanes, messages = 8, 5000
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for i := range messages {
				at := noon + int64(i)*1e6
				r := d.Receive(fmt.Appendf(nil, "acme/dev-%d", (i*7+lane)%2000), at)
				d.Take(r, m, at, 0)
				d.Refund(r, m)
				d.Stored(r)
				d.Reject(r, verdict.Reason(1+i%int(verdict.Count-1)), m, at, 0)
				d.Receive([]byte("acme/shared"), at)
				if i%500 == 0 {
					d.Top(10, ByRejected, unlimited())
					d.Lookup("acme", "shared", unlimited())
				}
			}
		})
	}
	wg.Wait()
	return lanes * messages
}

func testTopRanksByTheRequestedCount(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{})
	for i := range 100 {
		name := fmt.Appendf(nil, "t%d/dev-%02d", i%3, i)
		for range 100 - i {
			d.Receive(name, noon)
		}
		r := d.Receive(name, noon)
		for range i / 10 {
			d.Reject(r, verdict.RateLimited, Meter{}, noon, 0)
		}
	}
	names := func(top []Device) (out []string) {
		for _, x := range top {
			out = append(out, x.Tenant+"/"+x.Device)
		}
		return out
	}
	require.Equal(t, []string{"t0/dev-00", "t1/dev-01", "t2/dev-02"}, names(d.Top(3, ByReceived, unlimited())))
	require.Equal(t, []string{"t0/dev-90", "t0/dev-93", "t0/dev-96"}, names(d.Top(3, ByRejected, unlimited())),
		"equal ones by name")
	require.Len(t, d.Top(1000, ByReceived, unlimited()), 100)
	require.Len(t, d.Top(1000, ByRejected, unlimited()), 90, "devices with none are left out")
	require.Empty(t, d.Top(0, ByReceived, unlimited()))
	require.Equal(t, -1, d.Top(1, ByReceived, unlimited())[0].TokensLeft)
}

func testSpaceOfEvictedDevicesIsReused(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{Idle: time.Minute})
	name := func(i int) string { return fmt.Sprintf("tenant-%02d/%s-%06d", i%10, strings.Repeat("device", 6), i) }
	now := noon
	for round := range 20 {
		for i := range 2000 {
			d.Receive([]byte(name(2000*round+i)), now)
			now += int64(100 * time.Millisecond)
		}
	}
	bytes := 0
	for i := range d.shards {
		bytes += cap(d.shards[i].names)
	}
	require.Less(t, bytes, 4*d.Len()*len(name(0)), "names of forgotten devices are given up")
	found := 0
	for i := range 40_000 {
		tenant, device, _ := strings.Cut(name(i), "/")
		if x, ok := d.Lookup(tenant, device, unlimited()); ok {
			require.Equal(t, tenant+"/"+device, x.Tenant+"/"+x.Device)
			found++
		}
	}
	require.Equal(t, d.Len(), found)
	require.Less(t, found, 10_000)
}
