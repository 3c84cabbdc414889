package proof

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/reconcile"
)

// internal/reconcile tests the counting itself.
func TestVerdictOfALoad(t *testing.T) {
	t.Parallel()
	// Two devices, six messages; the last has no PUBACK.
	l := &Load{LoadOptions: LoadOptions{Devices: 2, Total: 6, Topic: "x"}, sent: 6, acks: 5,
		sends: []uint8{1, 1, 1, 1, 1, 1}, pubacks: []uint8{1, 1, 1, 1, 1, 0}}
	stream := func(messages ...uint64) (all []Stored) {
		for i, m := range messages {
			all = append(all, Stored{Message: m, Copy: reconcile.Copy{Subject: l.subject(int(m) % 2), At: time.Unix(int64(i), 0)}})
		}
		return all
	}
	for name, c := range map[string]struct {
		stream []Stored
		want   Verdict
	}{
		"all there":             {stream(1, 0, 3, 5, 2, 4), Verdict{Stored: 6}},
		"lost and twice":        {stream(0, 1, 3, 4, 5, 5), Verdict{Stored: 6, Lost: 1, Duplicated: 1}},
		"overtaken":             {stream(2, 1, 4, 0, 3, 5), Verdict{Stored: 6, Inversions: 1}},
		"not of this load":      {stream(0, 1, 2, 3, 4, 6), Verdict{Stored: 6, Foreign: 1}},
		"under another subject": {append(stream(0, 1, 2, 3), Stored{Message: 4, Copy: reconcile.Copy{Subject: l.subject(1), At: time.Unix(4, 0)}}), Verdict{Stored: 5, Lost: 1, Foreign: 1}},
	} {
		c.want.Sent, c.want.Acked, c.want.Gap = 6, 5, time.Second
		require.Equal(t, c.want, l.Reconcile(c.stream), name)
	}
	l.Identical = true
	all := append(stream(0, 0, 0, 0, 1), Stored{Copy: reconcile.Copy{Subject: "another", At: time.Unix(5, 0)}})
	require.Equal(t, Verdict{Sent: 6, Acked: 5, Stored: 6, Lost: 1, Duplicated: 1, Foreign: 1, Gap: time.Second}, l.Reconcile(all))
}
