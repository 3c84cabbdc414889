package limit

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// noon is when the tests' clock starts, in ns since the epoch.
const noon = int64(1_795_435_200) * 1e9

// bucket is a token bucket in its textbook form, in ns of the rate.
type bucket struct {
	level, size, interval int64
	at                    int64
}

func (b *bucket) take(now int64) bool {
	b.level = min(b.size, b.level+now-b.at)
	b.at = now
	if b.level < b.interval {
		return false
	}
	b.level -= b.interval
	return true
}

func TestRateMeter(t *testing.T) {
	t.Parallel()
	t.Run("one timestamp is a token bucket", testOneTimestampIsATokenBucket)
	t.Run("credit is spent once", testCreditIsSpentOnce)
	t.Run("extreme rates do not overflow", testExtremeRatesDoNotOverflow)
}

func testOneTimestampIsATokenBucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{
			Rate:  rapid.OneOf(rapid.Float64Range(0.001, 2000), rapid.Just(10.0), rapid.Just(1e9)).Draw(t, "rate"),
			Burst: rapid.IntRange(0, 50).Draw(t, "burst"),
		}
		m := r.meter()
		size := m.interval * int64(max(r.Burst, 1))
		b := &bucket{level: size, size: size, interval: m.interval, at: noon}
		tat, now := int64(0), noon
		for range rapid.IntRange(1, 200).Draw(t, "messages") {
			now += rapid.Int64Range(0, 3*m.interval).Draw(t, "pause")
			require.Equal(t, int(min(b.size, b.level+now-b.at)/b.interval), m.left(tat, now))
			var ok bool
			tat, ok = m.take(tat, now, 0)
			require.Equal(t, b.take(now), ok)
		}
	})
}

func testCreditIsSpentOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := Rate{Rate: 10, Burst: rapid.IntRange(1, 30).Draw(t, "burst")}.meter()
		credit := rapid.Int64Range(0, 600e9).Draw(t, "credit")
		spent := rapid.Int64Range(0, credit).Draw(t, "TAT before") // of the elapsed time
		passed, now, tat := int64(0), noon, noon-spent
		for range 2*(credit/m.interval) + 100 {
			now += rapid.Int64Range(0, 2).Draw(t, "pause")
			var ok bool
			if tat, ok = m.take(tat, now, credit); ok {
				passed++
			}
		}
		limit := (spent+m.slack+now-noon)/m.interval + 1
		require.InDelta(t, limit, passed, 1, "the time away times the rate, and the burst")
	})
}

func testExtremeRatesDoNotOverflow(t *testing.T) {
	t.Parallel()
	for _, r := range []Rate{
		{Rate: 1e-300, Burst: math.MaxInt32}, {Rate: math.SmallestNonzeroFloat64, Burst: math.MaxInt},
		{Rate: math.MaxFloat64, Burst: math.MaxInt}, {Rate: math.Inf(1), Burst: math.MaxInt}, {Rate: 1e-5, Burst: 2_000_000},
	} {
		m := r.meter()
		tat, ok := m.take(0, noon, 0)
		require.True(t, ok, "%+v", r)
		_, ok = m.take(tat, noon, 0)
		require.True(t, ok, "the burst of %+v", r)
		require.Positive(t, m.left(tat, noon))
	}
	for _, r := range []Rate{{}, {Rate: -1, Burst: 3}} {
		require.Equal(t, Meter{}, r.meter(), "no limit")
		require.Equal(t, -1, r.meter().left(0, noon))
	}
}
