package lease

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var sixteen = strings.Split("0123456789abcdef", "")

func ids() *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.StringMatching("[0-9a-f]{4}"), 1, 20, rapid.ID[string])
}

// anyOwners is any state: partitions of removed replicas, unowned ones, all owned by
// one replica.
func anyOwners(t *rapid.T, replicas []string) map[string]string {
	holders := map[string]string{}
	from := append([]string{"", "gone", "gone too"}, replicas...)
	for _, p := range sixteen {
		if id := rapid.SampledFrom(from).Draw(t, "holder of "+p); id != "" {
			holders[p] = id
		}
	}
	return holders
}

func counts(replicas []string, share map[string]string) map[string]int {
	n := map[string]int{}
	for _, id := range replicas {
		n[id] = 0
	}
	for _, id := range share {
		n[id]++
	}
	return n
}

func requireBalanced(t require.TestingT, replicas []string, share map[string]string) {
	require.Len(t, share, len(sixteen))
	n := slices.Collect(maps.Values(counts(replicas, share)))
	require.Len(t, n, len(replicas), "only replicas that are there")
	require.LessOrEqual(t, slices.Max(n)-slices.Min(n), 1)
}

func TestAssign(t *testing.T) {
	t.Parallel()
	t.Run("shares differ by one at most", testSharesDifferByOneAtMost)
	t.Run("new replica moves only its own share", testNewReplicaMovesOnlyItsOwnShare)
	t.Run("removed replica moves only its own share", testRemovedReplicaMovesOnlyItsOwnShare)
	t.Run("stale views converge and move nothing twice", testStaleViewsConvergeAndMoveNothingTwice)
}

func testSharesDifferByOneAtMost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		replicas := ids().Draw(t, "replicas")
		share := Assign(sixteen, replicas, anyOwners(t, replicas))
		requireBalanced(t, replicas, share)
		require.Equal(t, share, Assign(sixteen, replicas, share), "what is shared out stays")
	})
	require.Empty(t, Assign(sixteen, nil, map[string]string{"0": "gone"}))
}

func testNewReplicaMovesOnlyItsOwnShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		replicas := ids().Draw(t, "replicas")
		before := Assign(sixteen, replicas[1:], anyOwners(t, replicas[1:]))
		after := Assign(sixteen, replicas, before)
		requireBalanced(t, replicas, after)
		for p, id := range after {
			if was, ok := before[p]; ok && was != id {
				require.Equal(t, replicas[0], id, "partition %s moved from one that stays to another", p)
			}
		}
	})
}

func testRemovedReplicaMovesOnlyItsOwnShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		replicas := ids().Filter(func(r []string) bool { return len(r) > 1 }).Draw(t, "replicas")
		before := Assign(sixteen, replicas, anyOwners(t, replicas))
		after := Assign(sixteen, replicas[1:], before)
		requireBalanced(t, replicas[1:], after)
		for p, id := range after {
			if before[p] != replicas[0] {
				require.Equal(t, before[p], id, "partition %s", p)
			}
		}
	})
}

// fleet is a store and replicas, each with a view of it from some moment.
type fleet struct {
	members []string // as the store has them
	holders map[string]string
	seen    map[string]sight
	moves   map[string][]string // the successive owners of each partition
}

type sight struct {
	members []string
	holders map[string]string
}

func (f *fleet) look(id string) { f.seen[id] = sight{slices.Clone(f.members), maps.Clone(f.holders)} }

// act makes a replica take one step on its view, as the coordinator would: release a
// partition outside its share, or acquire one that it believes free, if it is free.
func (f *fleet) act(id string) bool {
	s := f.seen[id]
	if !slices.Contains(s.members, id) {
		return false
	}
	holders := maps.Clone(s.holders)
	for _, p := range sixteen { // a replica knows its own leases for certain
		if f.holders[p] == id {
			holders[p] = id
		} else if holders[p] == id {
			delete(holders, p)
		}
	}
	share := Assign(sixteen, s.members, holders)
	for _, p := range sixteen {
		if f.holders[p] == id && share[p] != id {
			delete(f.holders, p)
			return true
		}
	}
	for _, p := range sixteen {
		if share[p] == id && holders[p] == "" && f.holders[p] == "" {
			f.holders[p] = id
			f.moves[p] = append(f.moves[p], id)
			return true
		}
	}
	return false
}

// settle makes the replicas look and act in any order until no replica has anything
// to do.
func (f *fleet) settle(t *rapid.T) {
	for range 10_000 {
		id := rapid.SampledFrom(f.members).Draw(t, "turn of")
		if rapid.Bool().Draw(t, "looks") {
			f.look(id)
		}
		f.act(id)
		if f.idle() {
			return
		}
	}
	require.Fail(t, "it does not settle", "%v", f.holders)
}

func (f *fleet) idle() bool {
	for _, id := range f.members {
		f2 := &fleet{members: f.members, holders: maps.Clone(f.holders), seen: map[string]sight{}, moves: map[string][]string{}}
		f2.look(id)
		if f2.act(id) {
			return false
		}
	}
	return true
}

func testStaleViewsConvergeAndMoveNothingTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.SliceOfNDistinct(rapid.StringMatching("[0-9a-f]{4}"), 2, 6, rapid.ID[string]).Draw(t, "replicas")
		f := &fleet{members: slices.Clone(replicas[1:]), holders: map[string]string{}, seen: map[string]sight{}, moves: map[string][]string{}}
		for p, id := range anyOwners(t, f.members) {
			if slices.Contains(f.members, id) {
				f.holders[p] = id
			}
		}
		f.settle(t)
		requireBalanced(t, f.members, f.holders)

		f.moves = map[string][]string{}
		f.members = append(f.members, replicas[0]) // joins
		f.settle(t)
		requireBalanced(t, f.members, f.holders)
		for p, to := range f.moves {
			require.Equal(t, []string{replicas[0]}, to, "partition %s: once, to the one that came", p)
		}

		f.moves = map[string][]string{}
		gone := rapid.SampledFrom(f.members).Draw(t, "gone")
		f.members = slices.DeleteFunc(f.members, func(id string) bool { return id == gone })
		left := 0
		maps.DeleteFunc(f.holders, func(_, id string) bool { return id == gone && func() bool { left++; return true }() })
		f.settle(t)
		requireBalanced(t, f.members, f.holders)
		require.Len(t, f.moves, left, "only the partitions of the replica that left")
		for p, to := range f.moves {
			require.Len(t, to, 1, fmt.Sprint("partition ", p))
		}
	})
}
