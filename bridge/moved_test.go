package bridge

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge/journal"
)

// A partition returns from another replica to a lane with an unchanged journal. The broker has
// since reused each packet id, for messages with the same payload. None of them may be mistaken for
// a stored one.
func TestLaneStaleJournal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stale := journal.New()
		s := play(t, attested(t), func(o *LaneOptions) { o.Journal = stale })
		payload := rapid.SampledFrom([]string{"", "21.5"}).Draw(t, "payload")
		before := rapid.IntRange(1, 50).Draw(t, "before")
		topic := func(n int) string { return vouched(fmt.Sprintf("%032X", n), s.now, "acme/dev-1", telemetry) }
		for i := range before {
			s.deliver(uint16(i+1), topic(i), payload)
			s.stream.store(i)
		}
		require.Len(t, s.conn.acked(), before)

		// After another replica's turn, a new process opens the old journal.
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
