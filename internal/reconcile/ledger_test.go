package reconcile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/reconcile"
)

// load is two devices with six messages that take turns; the last has no PUBACK.
// Message m is number m/2 of device m%2.
func load(sends, pubacks []int) *reconcile.Ledger {
	l := reconcile.New(2)
	for m := range sends {
		for range sends[m] {
			l.Sent(m%2, m/2)
		}
		for range pubacks[m] {
			l.Acked(m%2, m/2, time.Unix(int64(m), 0))
		}
	}
	return l
}

func once() *reconcile.Ledger { return load([]int{1, 1, 1, 1, 1, 1}, []int{1, 1, 1, 1, 1, 0}) }

// store has the messages in a stream, one per second.
func store(l *reconcile.Ledger, messages ...int) {
	for i, m := range messages {
		l.Stored(m%2, m/2, reconcile.Copy{At: time.Unix(int64(i), 0), Place: uint64(i + 1)})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream []int
		want   reconcile.Verdict
	}{
		"all there":            {[]int{0, 1, 2, 3, 4, 5}, reconcile.Verdict{Stored: 6}},
		"not acknowledged":     {[]int{0, 1, 2, 3, 4}, reconcile.Verdict{Stored: 5}},
		"another device first": {[]int{1, 0, 3, 5, 2, 4}, reconcile.Verdict{Stored: 6}},
		"lost":                 {[]int{0, 1, 3, 4, 5}, reconcile.Verdict{Stored: 5, Lost: 1}},
		"stored twice":         {[]int{0, 1, 2, 3, 4, 5, 2, 5}, reconcile.Verdict{Stored: 8, Duplicated: 2}},
		"overtaken":            {[]int{2, 1, 4, 0, 3, 5}, reconcile.Verdict{Stored: 6, Inversions: 1}},
		"never sent":           {[]int{0, 1, 2, 3, 4, 6}, reconcile.Verdict{Stored: 6, Foreign: 1}},
		"nothing":              {nil, reconcile.Verdict{Lost: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := once()
			store(l, c.stream...)
			c.want.Sent, c.want.Acked = 6, 5
			if len(c.stream) > 0 {
				c.want.Gap = time.Second
			}
			got := l.Verdict()
			require.Equal(t, c.want, got)
			require.Equal(t, got.Lost+got.Duplicated+got.Inversions+got.Foreign == 0, got.Clean())
			require.Equal(t, c.want.Lost, l.Missing())
			require.Len(t, l.Lost(), c.want.Lost)
			require.Len(t, l.Findings(), c.want.Duplicated+c.want.Inversions+c.want.Foreign)
		})
	}
}

func TestVerdictResends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream []int
		want   reconcile.Verdict
	}{
		"as often as sent":    {[]int{0, 1, 2, 3, 4, 5, 2, 4}, reconcile.Verdict{Resent: 1}},
		"the resent only":     {[]int{0, 1, 2, 3, 4, 2}, reconcile.Verdict{}},
		"one of two":          {[]int{0, 1, 2, 3, 4}, reconcile.Verdict{Lost: 1}},
		"once more than sent": {[]int{0, 1, 2, 3, 4, 2, 2}, reconcile.Verdict{Duplicated: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Message 2 was published and acknowledged twice, message 4 acknowledged once.
			l := load([]int{1, 1, 2, 1, 2, 1}, []int{1, 1, 2, 1, 1, 0})
			store(l, c.stream...)
			c.want.Sent, c.want.Acked, c.want.Stored, c.want.Gap = 6, 5, len(c.stream), time.Second
			require.Equal(t, c.want, l.Verdict())
		})
	}
}

func TestVerdictQuarantine(t *testing.T) {
	t.Parallel()
	l := once()
	store(l, 0, 1, 2, 3)
	l.Quarantined(0, 2, reconcile.Copy{})
	require.Equal(t, reconcile.Verdict{Sent: 6, Acked: 5, Stored: 4, Quarantined: 1, Gap: time.Second}, l.Verdict())
	l.Quarantined(0, 2, reconcile.Copy{})
	require.Equal(t, 1, l.Verdict().Duplicated)
}

func TestVerdictLatePUBACK(t *testing.T) {
	t.Parallel()
	l := reconcile.New(1)
	l.Sent(0, 0)
	l.Stored(0, 0, reconcile.Copy{})
	l.Acked(0, 0, time.Now())
	require.Zero(t, l.Missing())
	require.True(t, l.Verdict().Clean())
}

func TestFindings(t *testing.T) {
	t.Parallel()
	l := once()
	store(l, 2, 1, 0, 0)
	l.Foreign(1, 7, reconcile.Copy{Subject: "x", ID: "y"})
	lost := l.Lost()
	require.Len(t, lost, 2)
	require.Equal(t, "lost: message 1 of device 1, acknowledged at 00:00:03.000", lost[0].String())
	require.Equal(t, "lost: message 2 of device 0, acknowledged at 00:00:04.000", lost[1].String())
	var kinds []reconcile.Kind
	for _, f := range l.Findings() {
		kinds = append(kinds, f.Kind)
	}
	require.Equal(t, []reconcile.Kind{reconcile.Inverted, reconcile.Duplicated, reconcile.Foreign}, kinds)
	gap, dev := l.LongestGap()
	require.Equal(t, 2*time.Second, gap)
	require.Zero(t, dev)
}

func TestIndistinct(t *testing.T) {
	t.Parallel()
	sent, acked := map[string]int{"a": 3, "b": 3}, map[string]int{"a": 3, "b": 2}
	for name, c := range map[string]struct {
		a, b, c int
		want    reconcile.Verdict
	}{
		"all there":        {3, 3, 0, reconcile.Verdict{}},
		"not acknowledged": {3, 2, 0, reconcile.Verdict{}},
		"lost":             {2, 1, 0, reconcile.Verdict{Lost: 2}},
		"stored twice":     {4, 5, 0, reconcile.Verdict{Duplicated: 3}},
		"one each":         {4, 1, 0, reconcile.Verdict{Duplicated: 1, Lost: 1}},
		"another's":        {3, 3, 2, reconcile.Verdict{Foreign: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := map[string]int{"a": c.a, "b": c.b}
			if c.c > 0 {
				stored["c"] = c.c
			}
			c.want.Sent, c.want.Acked, c.want.Stored = 6, 5, c.a+c.b+c.c
			require.Equal(t, c.want, reconcile.Indistinct(sent, acked, stored))
		})
	}
}
