package bridge

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestHistogramQuantile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		values := rapid.SliceOfN(rapid.Int64Range(-5, 400e9), 1, 60).Draw(t, "ns")
		var sum int64
		for _, v := range values {
			h.observe(v)
			sum += max(v, 0)
		}
		require.Equal(t, uint64(len(values)), h.Count)
		require.Equal(t, sum, h.Sum)
		last := int64(0)
		for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 1} {
			got := h.Quantile(q)
			require.GreaterOrEqual(t, got, last, "quantiles do not fall")
			last = got
			atOrBelow := 0 // values in the quantile's bucket or below it
			for _, v := range values {
				for i := range h.Buckets {
					if got <= h.UpperBound(i) {
						if v < h.UpperBound(i) {
							atOrBelow++
						}
						break
					}
				}
			}
			require.GreaterOrEqual(t, float64(atOrBelow), q*float64(len(values)))
		}
	})
}

func TestHistogramBuckets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ns     int64
		bucket int
	}{
		{-1, 0}, {0, 0}, {1<<16 - 1, 0}, {1 << 16, 1}, {1<<17 - 1, 1}, {1 << 17, 2},
		{1 << 38, 23}, {1<<63 - 1, 23},
	} {
		var h Histogram
		h.observe(c.ns)
		require.Equal(t, uint64(1), h.Buckets[c.bucket], c.ns)
		if c.bucket < histogramBuckets-1 {
			require.Less(t, c.ns, h.UpperBound(c.bucket))
		}
	}
	var h Histogram
	require.Zero(t, h.Quantile(0.5), "of nothing")
	for range 100 {
		h.observe(100_000)
	}
	require.InDelta(t, 98_304, h.Quantile(0.5), 1, "half way through 65,536 to 131,072")
	sum := h
	sum.Add(&h)
	require.Equal(t, uint64(200), sum.Count)
	require.Equal(t, int64(20_000_000), sum.Sum)
	require.Equal(t, uint64(200), sum.Buckets[1])
	require.Equal(t, h.Quantile(0.9), sum.Quantile(0.9))
}
