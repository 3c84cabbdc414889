package subjects_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/subjects"
)

// FuzzSet reads one pattern per line and looks up the pattern of a topic. The reference is the MQTT
// filter of each pattern, matched level by level.
func FuzzSet(f *testing.F) {
	const topic = "tenant/acme/device/dev-1/telemetry"
	f.Add(strings.Join([]string{telemetryPattern, shadowPattern, commandsPattern}, "\n"), topic)
	f.Add(strings.Join([]string{telemetryPattern, "tenant/{tenant}/device/{device}/events"}, "\n"), topic)
	for _, text := range []string{"a/+/#", "{a}/{a}", "{", "}", "a/{b}c", "//", "$share/a/b", "{x}/$y", "ü/{a}", "$s/{x}\n{y}/a", "a\n{b}", "_INBOX/{x}", "{a}/{b}/{c}\n{a}/x/y/{z}", "a/{b}\na/{b}/{c...}", "a/{b...}\n{c}", "{a...}", "a/{b}/{c...}\na/b", "{a}/b/{c...}\na/{b}", "{x...}\n$s/{y...}"} {
		f.Add(text, topic)
		f.Add(text, "$s/a")
	}
	f.Fuzz(func(t *testing.T, lines, topic string) {
		var routes []subjects.Route
		for text := range strings.SplitSeq(lines, "\n") {
			p, err := subjects.ParsePattern(text)
			if err != nil {
				require.Nil(t, p)
				continue
			}
			require.Equal(t, text, p.String())
			requireMatchesItsFilter(t, p, topic)
			routes = append(routes, subjects.Route{Pattern: p})
		}
		// Two patterns overlap if a topic matches both.
		overlap, unfit := false, false
		for i, a := range routes {
			unfit = unfit || subjects.CheckSubject([]byte(a.Pattern.StreamSubject())) != nil
			for _, b := range routes[:i] {
				example, ok := subjects.Overlap(a.Pattern, b.Pattern)
				overlap = overlap || ok
				if ok {
					require.True(t, matchesFilter(a.Pattern.Filter(), example) && matchesFilter(b.Pattern.Filter(), example), example)
				} else {
					require.False(t, takes(a.Pattern, topic) && takes(b.Pattern, topic))
				}
			}
		}
		s, err := subjects.NewSet(routes)
		if err == nil || !strings.Contains(err.Error(), "neither contains the other") {
			require.Equal(t, len(routes) == 0 || overlap || unfit, err != nil, "%v", err)
		}
		if err != nil {
			require.Nil(t, s)
			return
		}
		subscribed := 0
		for _, f := range s.Filters() {
			if matchesFilter(f, topic) {
				subscribed++
			}
		}
		require.LessOrEqual(t, subscribed, 1, "a broker may send it once for each of %q", s.Filters())
		want := -1
		for i, r := range routes {
			if takes(r.Pattern, topic) {
				want = i
			}
		}
		var m subjects.Match
		route, ok := s.Match([]byte(topic), &m)
		require.Equal(t, want >= 0, ok)
		require.False(t, ok && subscribed == 0)
		if ok {
			require.Equal(t, want, route)
			require.Same(t, routes[route].Pattern, m.Pattern())
		}
	})
}

// takes is the reference: {name...} does not match the parent level, unlike #, and matches no more
// levels than a subject has tokens.
func takes(p *subjects.Pattern, topic string) bool {
	levels, least := strings.Count(topic, "/")+1, strings.Count(p.String(), "/")+1
	return len(topic) < 1<<16 && levels >= least && levels <= subjects.MaxTokens &&
		!strings.Contains(topic, "\x00") && matchesFilter(p.Filter(), topic)
}

// requireMatchesItsFilter asserts that a pattern and its filter match the same topics, that the
// captures are the levels at the wildcards, and that the subject is that of the topic.
func requireMatchesItsFilter(t *testing.T, p *subjects.Pattern, topic string) {
	var m subjects.Match
	require.Equal(t, takes(p, topic), p.Match([]byte(topic), &m), "%q, %q", p, topic)
	if m.Pattern() == nil {
		return
	}
	levels, n := strings.Split(topic, "/"), 0
	for i, level := range strings.Split(p.Filter(), "/") {
		switch level {
		case "+":
			require.Equal(t, levels[i], string(m.At(n)))
			n++
		case "#":
			require.Equal(t, strings.Join(levels[i:], "/"), string(m.At(n)))
			n++
		}
	}
	require.Equal(t, n, m.Len())
	require.Equal(t, string(subjects.AppendSubject(nil, []byte(topic))), string(p.Template().Append(nil, &m)))
}
