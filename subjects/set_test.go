package subjects_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/subjects"
)

func mustSet(t require.TestingT, patterns ...string) *subjects.Set {
	var routes []subjects.Route
	for _, p := range patterns {
		routes = append(routes, subjects.Route{Pattern: mustPattern(t, p)})
	}
	s, err := subjects.NewSet(routes)
	require.NoError(t, err)
	return s
}

func TestTemplateAppend(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pattern, template, topic, stream, subject string }{
		{telemetryPattern, "telemetry.{tenant}.{device}", "tenant/acme/device/dev-1/x", "telemetry.*.*", "telemetry.acme.dev-1"},
		{telemetryPattern, "{type}.{tenant}.{type}", "tenant/a.b/device//$x", "*.*.*", "%24x.a%2Eb.$x"},
		{telemetryPattern, "{device}", "tenant/acme/device//x", "*", "%00"},
		{telemetryPattern, "all", "tenant/acme/device/dev-1/x", "all", "all"},
		{telemetryPattern, "a.{tenant}.z", "tenant/ /device/dev-1/x", "a.*.z", "a.%20.z"},
		{"x/{a}", "$", "", "", ""},
	} {
		p := mustPattern(t, tc.pattern)
		tpl, err := subjects.ParseTemplate(tc.template, p)
		if tc.topic == "" {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tc.template, tpl.String())
		require.Equal(t, tc.stream, tpl.StreamSubject())
		require.Same(t, p, tpl.Pattern())
		require.False(t, tpl.Reversible())
		var m subjects.Match
		require.True(t, p.Match([]byte(tc.topic), &m))
		require.Equal(t, "kept."+tc.subject, string(tpl.Append([]byte("kept."), &m)))
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	t.Run("own template is reversible", testOwnTemplateIsReversible)
	t.Run("subject of any match is that of its topic", testSubjectOfAnyMatchIsThatOfItsTopic)
}

func testOwnTemplateIsReversible(t *testing.T) {
	t.Parallel()
	p := mustPattern(t, telemetryPattern)
	require.Equal(t, "tenant.{tenant}.device.{device}.{type}", p.Template().String())
	require.True(t, p.Template().Reversible())
	written, err := subjects.ParseTemplate(p.Template().String(), p)
	require.NoError(t, err)
	require.True(t, written.Reversible(), "the same template, written out")
}

func TestParseTemplateErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, template, says string }{
		{"empty", "", "it is empty, omit it"},
		{"empty token", "a..b", "token 2, column 3: a token cannot be empty"},
		{"leading dot", ".a", "token 1, column 1: a token cannot be empty"},
		{"trailing dot", "a.", "token 2, column 3: a token cannot be empty"},
		{"system subject", "$SYS.{tenant}", "token 1, column 1: subjects that begin with $ belong to the server"},
		{"inbox", "_INBOX.{tenant}", "are reserved for replies"},
		{"star", "a.*", "token 2, column 3: '*' is a wildcard"},
		{"greater-than", "a.b>", "token 2, column 4: '>' is a wildcard"},
		{"slash", "a/{tenant}", "token 1, column 3: a capture is a whole token"},
		{"slash between literals", "a/b", "token 1, column 2: a slash separates a topic's levels"},
		{"space", "a.b c", "token 2, column 4: ' ' is not allowed in a literal token"},
		{"percent", "a.%2E", "'%' is not allowed in a literal token"},
		{"non-ASCII", "a.grün", "token 2, column 5: 'ü' is not allowed"},
		{"unknown capture", "a.{site}", `token 2, column 3: {site} is not a capture of the topic "` + telemetryPattern + `", which has {tenant}, {device}, {type}`},
		{"bad name", "a.{Tenant}", "token 2, column 4: 'T' is not allowed there"},
		{"33 tokens", strings.Repeat("a.", 32) + "a", "token 33, column 65: a subject has at most 32 tokens"},
		{"too long", strings.Repeat("a", 1025), "more than 1024 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tpl, err := subjects.ParseTemplate(tc.template, mustPattern(t, telemetryPattern))
			require.ErrorContains(t, err, tc.says)
			require.Nil(t, tpl)
		})
	}
	_, err := subjects.ParseTemplate("a.{b}", mustPattern(t, "a"))
	require.ErrorContains(t, err, "which has none")
}

func TestSetMatch(t *testing.T) {
	t.Parallel()
	s := mustSet(t, telemetryPattern, shadowPattern, commandsPattern, "plain")
	require.Equal(t, 4, s.Len())
	for topic, want := range map[string]int{
		"tenant/acme/device/dev-1/telemetry":       0,
		"tenant/acme/device/dev-1/shadow/reported": 1,
		"tenant/acme/device/dev-1/commands/ack":    2,
		"plain":                                    3,
		"tenant/acme/device/dev-1/commands/nack":   -1,
		"other":                                    -1,
		"":                                         -1,
		"plain\x00":                                -1,
		strings.Repeat("/", 40):                    -1,
	} {
		var m subjects.Match
		route, ok := s.Match([]byte(topic), &m)
		require.Equal(t, want >= 0, ok, topic)
		if !ok {
			require.Nil(t, m.Pattern(), "m stays as it was")
			continue
		}
		require.Equal(t, want, route)
		require.Same(t, s.Route(route).Pattern, m.Pattern())
		subject, err := subjects.FromTopic(topic)
		require.NoError(t, err)
		require.Equal(t, subject, string(s.Route(route).Template.Append(nil, &m)))
	}
}

func TestNewSetErrors(t *testing.T) {
	t.Parallel()
	_, err := subjects.NewSet(nil)
	require.ErrorContains(t, err, "no routes")

	_, err = subjects.NewSet([]subjects.Route{{}})
	require.ErrorContains(t, err, "route 0 has no pattern")

	a, b := mustPattern(t, "a/{x}"), mustPattern(t, "b/{x}")
	_, err = subjects.NewSet([]subjects.Route{{Pattern: a, Template: b.Template()}})
	require.ErrorContains(t, err, `"b.{x}" of "a/{x}" was parsed for the pattern "b/{x}"`)

	_, err = subjects.NewSet([]subjects.Route{
		{Pattern: mustPattern(t, "_INBOX/{x}")},
		{Pattern: mustPattern(t, strings.Repeat("ü", 200)+"/{x}")},
	})
	require.ErrorIs(t, err, subjects.ErrSubjectReserved)
	require.ErrorIs(t, err, subjects.ErrSubjectTooLong)

	_, err = subjects.NewSet([]subjects.Route{
		{Pattern: mustPattern(t, telemetryPattern)},
		{Pattern: mustPattern(t, "tenant/{tenant}/device/{device}/events")},
		{Pattern: mustPattern(t, "tenant/acme/device/{device}/{x}")},
	})
	require.ErrorContains(t, err, `"`+telemetryPattern+`" and "tenant/{tenant}/device/{device}/events" overlap, both match "tenant/tenant1/device/device1/events"`)
	require.ErrorContains(t, err, `"tenant/acme/device/{device}/{x}" overlap, both match "tenant/acme/device/device1/type1"`)
	require.ErrorContains(t, err, `both match "tenant/acme/device/device1/events"`, "every pair is reported")
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ a, b, example string }{
		{"a/{x}", "{y}/b", "a/b"},
		{"a", "a", "a"},
		{"{x}", "{y}", "x1"},
		{"$s/a", "$s/{x}", "$s/a"},
		{"a/", "a/{x}", "a/"},
		{"a", "b", ""},
		{"a", "a/b", ""},
		{"{x}/a", "$s/a", ""}, // [MQTT-4.7.2-1]
		{"{x}/a", "{x}/b", ""},
	} {
		for _, pair := range [][2]string{{tc.a, tc.b}, {tc.b, tc.a}} {
			example, ok := subjects.Overlap(mustPattern(t, pair[0]), mustPattern(t, pair[1]))
			require.Equal(t, tc.example != "", ok, "%v", pair)
			if tc.example != "x1" {
				require.Equal(t, tc.example, example, "%v", pair)
			}
		}
	}
}

func TestOverlapSharedTopic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := mustPattern(t, genPattern().Draw(t, "a")), mustPattern(t, genPattern().Draw(t, "b"))
		example, overlap := subjects.Overlap(a, b)
		_, reverse := subjects.Overlap(b, a)
		require.Equal(t, overlap, reverse)

		var m subjects.Match
		if overlap {
			require.True(t, a.Match([]byte(example), &m))
			require.True(t, b.Match([]byte(example), &m))
			return
		}
		// No topic of the patterns' alphabet is in both.
		level := rapid.SampledFrom([]string{"a", "b", "$s", "x.y", "ü", "", "z"})
		topic := []byte(strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/"))
		require.False(t, a.Match(topic, &m) && b.Match(topic, &m))
	})
}

func testSubjectOfAnyMatchIsThatOfItsTopic(t *testing.T) {
	t.Parallel()
	patterns := []string{telemetryPattern, shadowPattern, "{a}", "{a}/{b}", "{a}/{b}/{c}", "/{a}", "$s/{a}/{b}/{c}"}
	rapid.Check(t, func(t *rapid.T) {
		p := mustPattern(t, rapid.SampledFrom(patterns).Draw(t, "pattern"))
		filled := p.String()
		for _, name := range p.Captures() {
			value := strings.NewReplacer("/", "_", "{", "(", "}", ")").Replace(genTopic().Draw(t, name))
			filled = strings.Replace(filled, "{"+name+"}", value, 1)
		}
		var m subjects.Match
		if !p.Match([]byte(filled), &m) {
			require.Equal(t, byte('$'), filled[0])
			return
		}
		subject := string(p.Template().Append(nil, &m))
		require.Equal(t, string(subjects.AppendSubject(nil, []byte(filled))), subject)
		require.True(t, p.Template().Reversible())
	})
}

func TestSetFilters(t *testing.T) {
	t.Parallel()
	set := func(texts ...string) (*subjects.Set, error) {
		var routes []subjects.Route
		for _, text := range texts {
			routes = append(routes, subjects.Route{Pattern: mustPattern(t, text)})
		}
		return subjects.NewSet(routes)
	}
	for _, c := range []struct{ patterns, filters []string }{
		{[]string{"z/{device}", "z/{device}/{rest...}"}, []string{"z/+/#"}},
		{[]string{"a/{x}", "b/{x}"}, []string{"a/+", "b/+"}},
		{[]string{"{all...}", "$SYS/{rest...}"}, []string{"#", "$SYS/#"}},
	} {
		s, err := set(c.patterns...)
		require.NoError(t, err)
		require.Equal(t, c.filters, s.Filters())
	}
	_, err := set("a/{x}/{rest...}", "{y}/b")
	require.ErrorContains(t, err, `the filters "a/+/#" and "+/b"`)
	_, err = set("a/{x}/{rest...}", "a/{x}/b/{y}")
	require.ErrorContains(t, err, "overlap, both match")
}

func TestSubscribed(t *testing.T) {
	t.Parallel()
	s := mustSet(t, "a/{tenant}/{device}/{rest...}", "b/{tenant}/{device}")
	for topic, want := range map[string]bool{
		"a/t/d": true, "a/t/d/x/y": true, "b/t/d": true, "b//": true,
		"a/t": false, "b/t": false, "b/t/d/x": false, "c/t/d": false, "$b/t/d": false,
	} {
		require.Equal(t, want, s.Subscribed(topic), topic)
	}
}
