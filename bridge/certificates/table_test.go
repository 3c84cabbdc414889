package certificates

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// noon is an end of validity, in ns since the epoch.
const noon = int64(1_795_435_200) * 1e9

// heap returns the size of the live heap after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestCertificateTable(t *testing.T) {
	t.Parallel()
	t.Run("behaves like a map", testBehavesLikeAMap)
	t.Run("hash collision matches no other device", testHashCollisionMatchesNoOtherDevice)
	t.Run("excess statuses read as not active", testExcessStatusesReadAsNotActive)
	t.Run("concurrent lookup and update is safe", testConcurrentLookupAndUpdateIsSafe)
}

// The table has few places, so that runs are long and shards are rebuilt.
func testBehavesLikeAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable()
		model := map[string]Certificate{}
		names := rapid.IntRange(0, 300)
		statuses := rapid.SampledFrom([]string{"ACTIVE", "REVOKED", "LOST", ""})
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			device := fmt.Sprintf("dev-%d", names.Draw(t, "device"))
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				table.Delete("t", device)
				delete(model, "t/"+device)
				continue
			}
			status, end := statuses.Draw(t, "status"), rapid.Int64Range(0, maxNotAfter).Draw(t, "end")
			table.Put("t", device, status, end)
			model["t/"+device] = Certificate{Active: status == StatusActive, Status: status, NotAfter: end}
		}
		if rapid.Bool().Draw(t, "pack") {
			table.Compact()
		}
		require.Equal(t, len(model), table.Len())
		for i := range 301 {
			name := fmt.Sprintf("t/dev-%d", i)
			got, ok := table.find([]byte(name))
			want, known := model[name]
			require.Equal(t, known, ok, name)
			require.Equal(t, want, got)
		}
	})
}

// The table must compare names as well as hashes: two names with the same hash are two
// certificates.
func testHashCollisionMatchesNoOtherDevice(t *testing.T) {
	t.Parallel()
	table := NewTable()
	s, hash := table.shard([]byte("acme/good"))
	table.Put("acme", "good", "ACTIVE", 0)
	_, _, ok := s.find(hash, []byte("acme/evil"))
	require.False(t, ok, "a name with the hash of another")
}

func testExcessStatusesReadAsNotActive(t *testing.T) {
	t.Parallel()
	table := NewTable()
	for i := range 1000 {
		table.Put("t", fmt.Sprint(i), fmt.Sprintf("STATUS-%d", i), 0)
	}
	for i := range 1000 {
		c, ok := table.find(fmt.Appendf(nil, "t/%d", i))
		require.True(t, ok)
		require.False(t, c.Active)
		require.Contains(t, []string{fmt.Sprintf("STATUS-%d", i), "not active"}, c.Status)
	}
	table.Put("t", strings.Repeat("x", 1<<17), "ACTIVE", 0)
	require.Equal(t, 1000, table.Len(), "no topic has such a name")
}

func testConcurrentLookupAndUpdateIsSafe(t *testing.T) {
	t.Parallel()
	c := New()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 20_000 {
				c.Certificate(fmt.Appendf(nil, "t/%d", i%500))
			}
		})
	}
	for i := range 5_000 {
		c.Table().Put("t", fmt.Sprint(i%500), fmt.Sprintf("S%d", i%7), 0)
		if i%100 == 0 {
			c.Table().Delete("t", fmt.Sprint(i%500))
			c.Use(NewTable())
		}
	}
	wait.Wait()
}

// registry returns n certificates with names of 24 bytes.
func registry(n int) *Table {
	t := NewTable()
	for i := range n {
		t.Put(fmt.Sprintf("tenant-%04d", i%1000), fmt.Sprintf("device-%05d", i/1000), StatusActive, noon/1e6+int64(i))
	}
	t.Compact()
	return t
}

// Not parallel: it reads the process's heap.
func TestCertificateTableMemory(t *testing.T) {
	const n = 1_000_000
	before := heap()
	table := registry(n)
	each := float64(heap()-before) / n
	t.Logf("%.1f B a certificate with its name", each)
	require.Equal(t, n, table.Len())
	require.LessOrEqual(t, each, 64.0)
	runtime.KeepAlive(table)
}

func TestCertificateLookupAllocs(t *testing.T) {
	c := New()
	c.Use(registry(1000))
	name := []byte("tenant-0001/device-00000")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok := c.Certificate(name); !ok {
			t.Fail()
		}
	}))
}

func BenchmarkCertificates(b *testing.B) {
	const n = 1_000_000
	c := New()
	c.Use(registry(n))
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
				c.Certificate(names[i%span])
				i++
			}
		})
	}
}
