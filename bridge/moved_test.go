package bridge

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A partition that has been with another replica comes back to a lane whose journal
// is as it was before: the broker has reused every packet id meanwhile, for messages
// with the same payload. None of them may be taken for one that is stored.
func TestAStaleJournalNeverCallsANewAttestedMessageStored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stale := NewJournal()
		s := play(t, attested(t), func(o *LaneOptions) { o.Journal = stale })
		payload := rapid.SampledFrom([]string{"", "21.5"}).Draw(t, "payload")
		before := rapid.IntRange(1, 50).Draw(t, "before")
		topic := func(n int) string { return vouched(fmt.Sprintf("%032X", n), s.now, "acme/dev-1", telemetry) }
		for i := range before {
			s.deliver(uint16(i+1), topic(i), payload)
			s.stream.store(i)
		}
		require.Len(t, s.conn.acked(), before)

		// Another replica had it. A new process, with the journal of the old one.
		back := play(t, attested(t), func(o *LaneOptions) { o.Journal = stale })
		after := rapid.IntRange(1, 50).Draw(t, "after")
		for i := range after {
			id := uint16(rapid.IntRange(1, before).Draw(t, "packet id"))
			var how []with
			if rapid.Bool().Draw(t, "dup") {
				how = append(how, dup)
			}
			back.deliver(id, topic(before+i), payload, how...)
			require.Len(t, back.stream.all(), i+1, "published")
			require.Equal(t, fmt.Sprintf("%032X", before+i), back.last().id)
			require.Len(t, back.conn.acked(), i, "and not acknowledged before it is stored")
			back.stream.store(i)
		}
	})
}

// Of a plain topic nothing but the packet id and the bytes tells a redelivery from a
// new message. A journal that has missed what happened elsewhere can be wrong about
// that, which is why a lane moves with its journal or without any.
func TestAStaleJournalOfAPlainLaneCanBeWrong(t *testing.T) {
	t.Parallel()
	stale := NewJournal()
	s := play(t, func(o *LaneOptions) { o.Journal = stale })
	s.deliver(1, telemetry, "21.5")
	s.stream.store(0)

	// Elsewhere 65,534 messages went by; the next is the first again in all that
	// shows, and is delivered a second time because the lane came back here.
	back := play(t, func(o *LaneOptions) { o.Journal = stale })
	back.deliver(1, telemetry, "21.5", dup)
	require.Empty(t, back.stream.all(), "taken for the one that is stored")
	require.Equal(t, []uint16{1}, back.conn.acked())

	// Without a journal it is stored, twice at worst.
	fresh := play(t)
	fresh.connect(true)
	fresh.deliver(1, telemetry, "21.5", dup)
	require.Len(t, fresh.stream.all(), 1)
}
