package limit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// compliant is an ordered list of times at which a tenant sent within its limit.
func compliant(t *rapid.T, m Meter) []int64 {
	var sent []int64
	tat, now := int64(0), noon-int64(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "ago"))
	for range rapid.IntRange(1, 300).Draw(t, "messages") {
		now += rapid.Int64Range(0, 2*m.interval).Draw(t, "pause")
		at := now / 1e6 * 1e6
		var ok bool
		if tat, ok = m.take(tat, at, 0); ok && at <= noon {
			sent = append(sent, at)
		}
	}
	return sent
}

func TestTenantHistory(t *testing.T) {
	t.Parallel()
	rate := func(t *rapid.T) Meter {
		return Rate{
			Rate:  rapid.SampledFrom([]float64{0.01, 0.3, 1, 7, 50, 1000}).Draw(t, "rate"),
			Burst: rapid.IntRange(1, 50).Draw(t, "burst"),
		}.meter()
	}
	t.Run("a compliant one passes in any order", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			m := rate(t)
			d := NewBudgets(BudgetOptions{})
			for _, at := range rapid.Permutation(compliant(t, m)).Draw(t, "order") {
				require.True(t, d.TakeDated(d.Receive([]byte("acme"), noon), m, at))
			}
		})
	})
	t.Run("an excess is refused in any order", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			m := rate(t)
			length := rapid.Int64Range(4*int64(time.Second), 24*int64(time.Hour)).Draw(t, "length")
			sent := make([]int64, 3*(m.slack/m.interval+length/m.interval)+3)
			if len(sent) > 20_000 {
				t.Skip("too many")
			}
			for i := range sent {
				sent[i] = noon - rapid.Int64Range(0, length).Draw(t, "ago")
			}
			d := NewBudgets(BudgetOptions{})
			accepted := int64(0)
			for _, at := range sent {
				if d.TakeDated(d.Receive([]byte("acme"), noon), m, at) {
					accepted++
				}
			}
			// The width of the finest windows that cover that time, at both ends.
			width := finestWindow
			for historySlots*width <= length+width {
				width *= 4
			}
			windows := length/width + 2
			most := windows * ((m.slack+width)/m.interval + 1)
			require.LessOrEqual(t, accepted, most)
			// The total never exceeds the allowance of the widest window.
			for width <= length {
				width *= 4
			}
			require.LessOrEqual(t, accepted, 2*((m.slack+width)/m.interval+1))
		})
	})
}
