package simulate

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Environment variables select the seeds:
//
//	SIMULATE_SEEDS=10000 so many seeds (default: 500; 200 with -short)
//	SIMULATE_FIRST=50001 beginning with this one (default: 1)
//	SIMULATE_SEED=17     this one alone, with all that happens in it
const (
	seedsVariable = "SIMULATE_SEEDS"
	firstVariable = "SIMULATE_FIRST"
	seedVariable  = "SIMULATE_SEED"
)

// number reads an environment variable.
func number(t *testing.T, name string) (n uint64, ok bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n, true
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	if seed, ok := number(t, seedVariable); ok {
		explain(t, seed)
		return
	}
	seeds := uint64(500)
	if testing.Short() {
		seeds = 200
	}
	if n, ok := number(t, seedsVariable); ok {
		seeds = n
	}
	var next atomic.Uint64 // the last seed taken
	if first, ok := number(t, firstVariable); ok {
		require.Positive(t, first, firstVariable)
		next.Store(first - 1)
		seeds += first - 1
	}
	for worker := range 2 {
		t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			for seed := next.Add(1); seed <= seeds && !t.Failed(); seed = next.Add(1) {
				if run(t, generate(seed), sabotage{}, home, nil) != nil {
					explain(t, seed)
				}
			}
		})
	}
}

// explain runs a seed. If it fails, explain prints the shortened schedule and its events.
func explain(t *testing.T, seed uint64) {
	t.Helper()
	s := generate(seed)
	home := t.TempDir()
	found := run(t, s, sabotage{}, home, nil)
	if found == nil {
		t.Logf("seed %d: all is well", seed)
		return
	}
	s = shorten(s, 3000, func(s schedule) bool {
		v := run(t, s, sabotage{}, home, nil)
		return v != nil && v.promise == found.promise
	})
	t.Errorf("seed %d: %v\n\nits schedule, shortened:\n\n%s\nand what happens in it:\n\n%s\nrun it again: %s=%d go test -run TestSimulation ./internal/simulate",
		seed, found, s, retell(t, s, sabotage{}, home), seedVariable, seed)
}

// A failing seed is useful only if the failure is reproducible.
func TestSeedDeterminism(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for seed := uint64(1); seed <= 60; seed++ {
		s := generate(seed)
		once := retell(t, s, sabotage{}, home)
		require.Equal(t, once, retell(t, s, sabotage{}, home), "seed %d", seed)
		read, err := parse(s.String())
		require.NoError(t, err)
		require.Equal(t, s, read)
	}
}

// retell runs a schedule and returns its events.
func retell(t *testing.T, s schedule, broken sabotage, home string) string {
	t.Helper()
	var story strings.Builder
	run(t, s, broken, home, func(line string) { fmt.Fprintln(&story, line) })
	return story.String()
}
