package limit

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	t.Run("of a fleet are kept once", func(t *testing.T) {
		t.Parallel()
		d := NewBudgets(BudgetOptions{})
		for i := range 2000 {
			for k := range 5 {
				_, ok := d.ReceiveKind(fmt.Appendf(nil, "acme/dev-%d", i), noon, uint64(1<<((k*(i%4+1)+i)%5)), 100)
				require.True(t, ok)
			}
		}
		require.LessOrEqual(t, len(*d.kinds.sets.Load()), 1<<5, "the subsets of five")
	})
	t.Run("are kept for as long as the device", func(t *testing.T) {
		t.Parallel()
		d := NewBudgets(BudgetOptions{})
		for kind := uint64(1); kind <= 10; kind++ {
			_, ok := d.ReceiveKind([]byte("acme/dev-1"), noon, kind, 5)
			require.Equal(t, kind <= 5, ok)
		}
		r := d.Receive([]byte("acme/dev-1"), noon)
		s := d.shard(r.Hash)
		s.mu.Lock()
		d.forget(s, r.entry)
		s.mu.Unlock()
		_, ok := d.ReceiveKind([]byte("acme/dev-1"), noon, 10, 5)
		require.True(t, ok)
	})
}

// Not parallel: it counts allocations. Each device's first message adds a kind to the empty set.
func TestKindsAllocs(t *testing.T) {
	var k kinds
	first, ok := k.with(0, 7, 5)
	require.True(t, ok)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		set, ok := k.with(0, 7, 5)
		if set != first || !ok {
			t.Error("another set")
		}
	}))
}
