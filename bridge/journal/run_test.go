package journal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// content returns the hash of a payload of one letter.
func content(letter byte) uint64 { return uint64(letter) << 17 }

// received returns a journal of deliveries with consecutive packet ids from first on. Each letter
// is the content of one delivery.
func received(first uint16, letters string) *Journal {
	j := New()
	for i := range len(letters) {
		j.Append(first+uint16(i), content(letters[i]), noon)
	}
	return j
}

// Positions 1 to 5 have the packet ids 10 to 14; the PUBACKs of the first two may have been
// written.
func TestStartOfARun(t *testing.T) {
	t.Parallel()
	j := received(10, "abcde")
	j.MarkAcked(3)
	for name, c := range map[string]struct {
		id     uint16
		letter byte
		begins bool
	}{
		"acknowledged, the id proves it":                   {11, 'b', true},
		"acknowledged, another content":                    {11, 'x', false},
		"the first of a numbering has no predecessor":      {10, 'a', false},
		"the first that was never acknowledged":            {12, 'c', true},
		"the same with another content":                    {12, 'x', false},
		"a run must contain what was never acknowledged":   {13, 'd', false},
		"the latest alone leaves out what must come again": {14, 'e', false},
		"an id that was not assigned":                      {15, 'e', false},
	} {
		pos, ok := j.StartByID(c.id, content(c.letter))
		require.Equal(t, c.begins, ok, name)
		if ok {
			require.Equal(t, uint64(c.id)-9, pos, name)
		}
	}
	j = received(10, "abc")
	_, ok := j.StartByID(10, content('a'))
	require.True(t, ok, "the first of a numbering that was never acknowledged")

	// The ids have wrapped around between the preceding delivery and the latest: a later message
	// may have had its id.
	for last, proved := range map[uint16]bool{99: true, 100: false} {
		j = New()
		for i, id := range []uint16{100, 30_000, 60_000, last} {
			j.Append(id, content(byte('a'+i)), noon)
		}
		j.MarkAcked(j.End())
		_, ok = j.StartByID(30_000, content('b'))
		require.Equal(t, proved, ok, last)
	}
}

// A broker that restarts its numbering on each connection begins with the same id each time, so
// that id proves nothing.
func TestStartAtTheFirstIDOfABroker(t *testing.T) {
	t.Parallel()
	j := New()
	j.Append(65_534, content('a'), noon)
	j.Append(65_535, content('b'), noon)
	j.Append(1, content('c'), noon)
	j.Append(2, content('d'), noon)
	j.MarkAcked(5)
	_, ok := j.StartByID(2, content('d'))
	require.True(t, ok)
	_, ok = j.StartByID(1, content('c'))
	require.False(t, ok)
}

func TestJournalSentAgain(t *testing.T) {
	t.Parallel()
	j := received(10, "abcde")
	for name, c := range map[string]struct {
		id     uint16
		letter byte
		again  bool
	}{
		"known by its id":                  {12, 'c', true},
		"another content":                  {12, 'x', false},
		"the next id":                      {15, 'e', false},
		"the first, which has a successor": {10, 'a', true},
		"an id that was not assigned":      {9, 'a', false},
	} {
		_, ok := j.SentAgain(c.id, content(c.letter))
		require.Equal(t, c.again, ok, name)
	}
	_, ok := received(10, "a").SentAgain(10, content('a'))
	require.False(t, ok, "the only delivery: a broker may reuse a single id")
	_, ok = New().SentAgain(10, content('a'))
	require.False(t, ok, "no delivery")

	j = New()
	j.Append(20, content('a'), noon)
	j.Append(10, content('b'), noon) // not consecutive: earlier ids prove nothing
	_, ok = j.SentAgain(20, content('a'))
	require.False(t, ok)

	// A broker assigns ids to messages that it drops. An id after the wrap-around is a new message,
	// although the same id is among the latest.
	j = received(9, "ab")
	j.Append(40_000, content('c'), noon)
	_, ok = j.SentAgain(10, content('b'))
	require.False(t, ok)
}

func TestDistinctContents(t *testing.T) {
	t.Parallel()
	j := New()
	for i := range minHistory {
		require.False(t, j.Distinct(j.Oldest()), "%d contents", i)
		j.Append(uint16(i+1), content(byte(i)), noon)
	}
	require.True(t, j.Distinct(j.Oldest()))
	j.Append(200, content(3), noon)
	require.False(t, j.Distinct(j.Oldest()))
	require.False(t, j.Distinct(j.End()-1), "it occurred before")
	j.Append(201, content(minHistory), noon)
	require.True(t, j.Distinct(j.End()-1))
}

func TestResumeOfARun(t *testing.T) {
	t.Parallel()
	j := received(10, "abcde")
	j.MarkAcked(j.End())
	j.SetUnsure()
	j.Resume(3, nil)
	require.Equal(t, []uint64{3, 3, 6}, []uint64{j.Low(), j.Unacked(), j.End()})
	require.Equal(t, uint16(12), j.PacketID(3))
	require.False(t, j.Unsure())

	j = received(10, "abcde")
	j.MarkStored(4)
	j.MarkAcked(j.End())
	j.Resume(4, []uint16{5, 6})
	require.Equal(t, []uint64{4, 4, 6}, []uint64{j.Low(), j.Unacked(), j.End()})
	require.Equal(t, []uint16{5, 6}, []uint16{j.PacketID(4), j.PacketID(5)})
	require.True(t, j.SameRun([]uint64{content('d'), content('e')}))
	require.True(t, j.MayRenumber(5), "each connection may begin with this id")
	_, stored := j.Find(4)
	require.True(t, stored)
	_, ok := j.StartByID(6, content('e'))
	require.False(t, ok, "after a delivery that was never acknowledged")
}

func TestJournalSettle(t *testing.T) {
	t.Parallel()
	j := received(10, "abc")
	j.MarkAcked(j.End())
	j.SetUnsure()
	j.Settle(13, true)
	require.Equal(t, uint64(1), j.Low(), "attested deliveries can still be found")
	require.True(t, j.Contains(content('a')))
	require.False(t, j.Unsure())
	j.Settle(13, false)
	require.Equal(t, j.End(), j.Low())
	require.False(t, j.Contains(content('a')))

	// A connection whose first id does not follow the previous one begins a numbering. Its first
	// delivery has no predecessor, and each connection may begin with that id.
	j = received(10, "abc")
	j.Settle(7, true)
	j.Append(7, content('d'), noon)
	j.Append(8, content('e'), noon)
	j.MarkAcked(j.End())
	_, ok := j.StartByID(7, content('d'))
	require.False(t, ok)
	_, ok = j.StartByID(8, content('e'))
	require.True(t, ok)
	require.True(t, j.MayRenumber(7))
	require.False(t, j.MayRenumber(8))
}
