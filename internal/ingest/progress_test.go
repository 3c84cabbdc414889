package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	p := NewProgress(nil, true)
	begin := time.Unix(1e9, 0)
	table := func(lag, done uint64) []TableStatus { return []TableStatus{{Lag: lag, Acknowledged: done}} }
	require.Equal(t, "catching up: 100000 messages behind, 0 per second", p.line(begin, table(100_000, 0)))
	require.Equal(t, "catching up: 90000 messages behind, 10000 per second, done in 9s", p.line(begin.Add(time.Second), table(90_000, 10_000)))
	// Only the last seconds count.
	for s := 2; s < 20; s++ {
		p.line(begin.Add(time.Duration(s)*time.Second), table(80_000, 10_000))
	}
	require.Equal(t, "catching up: 80000 messages behind, 0 per second", p.line(begin.Add(20*time.Second), table(80_000, 10_000)))
	require.Empty(t, p.line(begin.Add(21*time.Second), table(10, 10_000)), "there is nothing to tell")
}
