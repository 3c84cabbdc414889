package limit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// heap returns the size of the live heap after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fleet returns n devices with names of up to 24 bytes.
func fleet(n int, limits Meter) *Budgets {
	d := NewBudgets(BudgetOptions{})
	var name []byte
	for i := range n {
		name = fmt.Appendf(name[:0], "tenant-%04d/device-%05d", i%1000, i/1000)
		r := d.Receive(name, noon)
		d.Take(r, limits, noon, 0)
		d.Stored(r)
	}
	return d
}

// Not parallel: it reads the process's heap.
func TestBudgetsMemory(t *testing.T) {
	const n = 1_000_000
	before := heap()
	d := fleet(n, Rate{Rate: 10, Burst: 20}.meter())
	perDevice := float64(heap()-before) / n
	t.Logf("%.1f B a device with its statistics and its name", perDevice)
	require.Equal(t, n, d.Len())
	require.LessOrEqual(t, perDevice, 96.0)
	runtime.KeepAlive(d)
}

func BenchmarkDevices(b *testing.B) {
	m := Rate{Rate: 10, Burst: 20}.meter()
	const n = 1_000_000
	d := fleet(n, m)
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "tenant-%04d/device-%05d", i%1000, i/1000)
	}
	rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	for name, span := range map[string]int{"warm": 16, "cold": n} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r := d.Receive(names[i%span], noon)
				d.Take(r, m, noon, 0)
				d.Stored(r)
				i++
			}
		})
	}
}
