package subjects_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/subjects"
)

const (
	telemetryPattern = "tenant/{tenant}/device/{device}/{type}"
	shadowPattern    = "tenant/{tenant}/device/{device}/shadow/reported"
	commandsPattern  = "tenant/{tenant}/device/{device}/commands/ack"
)

func mustPattern(t require.TestingT, text string) *subjects.Pattern {
	p, err := subjects.ParsePattern(text)
	require.NoError(t, err)
	return p
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, filter, stream string
		captures                []string
	}{
		{telemetryPattern, "tenant/+/device/+/+", "tenant.*.device.*.*", []string{"tenant", "device", "type"}},
		{shadowPattern, "tenant/+/device/+/shadow/reported", "tenant.*.device.*.shadow.reported", []string{"tenant", "device"}},
		{"plain", "plain", "plain", nil},
		{"{a}", "+", "*", []string{"a"}},
		{"/v1.0/{x_2}/", "/v1.0/+/", "%00.v1%2E0.*.%00", []string{"x_2"}},
		{"$app/$x/{a}", "$app/$x/+", "%24app.$x.*", []string{"a"}},
		{"größe/{a}", "größe/+", "gr%C3%B6%C3%9Fe.*", []string{"a"}},
		{"owntracks/{tenant}/{device}/{rest...}", "owntracks/+/+/#", "owntracks.*.*.>", []string{"tenant", "device", "rest"}},
	} {
		p := mustPattern(t, tc.pattern)
		require.Equal(t, tc.pattern, p.String())
		require.Equal(t, tc.filter, p.Filter())
		require.Equal(t, tc.stream, p.StreamSubject())
		require.Equal(t, tc.captures, p.Captures())
	}
}

func TestParsePatternErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, pattern, says string }{
		{"empty", "", "it is empty, write one such as"},
		{"too long", strings.Repeat("a", 1025), "it has 1025 bytes"},
		{"NUL", "a/\x00", "UTF-8 without NUL"},
		{"not UTF-8", "a/\xff", "UTF-8 without NUL"},
		{"plus", "tenant/+/x", `level 2, column 8: "+" is a filter's wildcard`},
		{"plus in a level", "a/b+", `level 2, column 4: "+"`},
		{"number sign", "tenant/{tenant}/#", `level 3, column 17: "#" is a filter's wildcard`},
		{"tail that is not the last", "a/{rest...}/b", "level 3, column 13: {rest...} matches all remaining levels"},
		{"tail without a name", "a/{...}", "level 2, column 3: a capture has a name"},
		{"tail twice", "{a...}/{b...}", "level 2, column 8: {a...} matches all"},
		{"shared", "$share/g/a", "level 1, column 1: a shared subscription"},
		{"text before a capture", "a/x{b}", "level 2, column 4: a capture is a whole level"},
		{"text after a capture", "a/{b}x", "level 2, column 3: a capture is a whole level"},
		{"two captures in a level", "{a}{b}", "column 1: a capture is a whole level"},
		{"unclosed", "a/{b/c", "level 2, column 3: a capture is a whole level"},
		{"unopened", "a/b}", "level 2, column 4: a capture is a whole level"},
		{"one brace", "{", "column 1: a capture is a whole level"},
		{"nameless", "a/{}", "level 2, column 3: a capture has a name"},
		{"upper case", "a/{bC}", `level 2, column 5: 'C' is not allowed there`},
		{"digit first", "{1a}", `column 2: '1' is not allowed there`},
		{"non-ASCII name", "{größe}", `column 4: 'ö' is not allowed there`},
		{"twice", "{a}/b/{a}", "level 3, column 7: {a} occurs twice"},
		{"nine captures", "{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "level 9, column 33: a pattern has at most 8 captures"},
		{"33 levels", strings.Repeat("a/", 32) + "a", "level 33, column 65: a pattern has at most 32 levels"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := subjects.ParsePattern(tc.pattern)
			require.ErrorContains(t, err, tc.says)
			require.Nil(t, p)
		})
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	t.Run("missing tenant or device is reported", testMissingTenantOrDeviceIsReported)
	t.Run("matches what its filter matches", testMatchesWhatItsFilterMatches)
}

func testMissingTenantOrDeviceIsReported(t *testing.T) {
	t.Parallel()
	require.NoError(t, mustPattern(t, telemetryPattern).RequireDevice())
	require.ErrorContains(t, mustPattern(t, "a/{device}").RequireDevice(), "it lacks {tenant}")
	require.ErrorContains(t, mustPattern(t, "a/{tenant}").RequireDevice(), "it lacks {device}")
	require.ErrorContains(t, mustPattern(t, "a").RequireDevice(), "it lacks {tenant} and {device}")
}

func TestPatternMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, topic string
		want           []string // nil: no match
	}{
		{telemetryPattern, "tenant/acme/device/dev-1/telemetry", []string{"acme", "dev-1", "telemetry"}},
		{telemetryPattern, "tenant/a.b/device/*/>", []string{"a.b", "*", ">"}},
		{telemetryPattern, "tenant//device//", []string{"", "", ""}},
		{telemetryPattern, "tenant/acme/device/dev-1", nil},
		{telemetryPattern, "tenant/acme/device/dev-1/telemetry/", nil},
		{telemetryPattern, "/tenant/acme/device/dev-1/telemetry", nil},
		{telemetryPattern, "tenant/acme/Device/dev-1/telemetry", nil},
		{telemetryPattern, "tenant/acme/device/dev\x00/telemetry", nil},
		{telemetryPattern, "", nil},
		{shadowPattern, "tenant/acme/device/dev-1/shadow/reported", []string{"acme", "dev-1"}},
		{shadowPattern, "tenant/acme/device/dev-1/shadow/report", nil},
		{"a", "a", []string{}},
		{"{x}", "a", []string{"a"}},
		{"{x}", "", nil},
		{"{x}/b", "/b", []string{""}},
		{"{x}/b", "$SYS/b", nil}, // [MQTT-4.7.2-1]
		{"$SYS/{x}", "$SYS/$b", []string{"$b"}},
		{"a/", "a/", []string{}},
		{"a/", "a", nil},
		{"{x}", strings.Repeat("a", 65535), []string{strings.Repeat("a", 65535)}},
		{"{x}", strings.Repeat("a", 65536), nil},
		{"{x}", strings.Repeat("a/", 32) + "a", nil},
		{strings.Repeat("a/", 31) + "{x}", strings.Repeat("a/", 31) + "b", []string{"b"}},
	} {
		var m subjects.Match
		ok := mustPattern(t, tc.pattern).Match([]byte(tc.topic), &m)
		require.Equal(t, tc.want != nil, ok, "%.60q %.60q", tc.pattern, tc.topic)
		if !ok {
			require.Nil(t, m.Pattern())
			require.Zero(t, m.Len())
			continue
		}
		got := make([]string, m.Len())
		for i := range got {
			got[i] = string(m.At(i))
			require.Equal(t, m.At(i), m.Get(m.Pattern().Captures()[i]))
		}
		require.Equal(t, tc.want, got)
		require.Nil(t, m.Get("no such name"))
		require.Panics(t, func() { m.At(m.Len()) })
	}
}

func TestMatchCheckDevice(t *testing.T) {
	t.Parallel()
	p := mustPattern(t, telemetryPattern)
	for topic, want := range map[string]error{
		"tenant/acme/device/dev-1/": nil,
		"tenant//device/dev-1/x":    subjects.ErrTenantEmpty,
		"tenant/acme/device//x":     subjects.ErrDeviceEmpty,
		"tenant//device//x":         subjects.ErrTenantEmpty,
	} {
		var m subjects.Match
		require.True(t, p.Match([]byte(topic), &m))
		require.ErrorIs(t, m.CheckDevice(), want, topic)
	}

	var m subjects.Match
	require.ErrorIs(t, m.CheckDevice(), subjects.ErrTenantEmpty, "nothing matched")
	require.Nil(t, m.Get("tenant"))
	require.True(t, mustPattern(t, "{tenant}/x").Match([]byte("acme/x"), &m))
	require.Equal(t, "acme", string(m.Tenant()))
	require.Nil(t, m.Device())
	require.ErrorIs(t, m.CheckDevice(), subjects.ErrDeviceEmpty, "no such capture")
}

// genPattern draws valid patterns that often overlap.
func genPattern() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		names := []string{"{tenant}", "{device}", "{c}", "{d}"}
		levels := make([]string, rapid.IntRange(1, 4).Draw(t, "levels"))
		for i := range levels {
			levels[i] = rapid.SampledFrom([]string{"a", "b", "$s", "x.y", "ü", names[i], names[i], names[i]}).Draw(t, "level")
		}
		if len(levels) > 1 && rapid.Bool().Draw(t, "trailing slash") {
			levels[len(levels)-1] = ""
		}
		return strings.Join(levels, "/")
	})
}

// matchesFilter is a simple implementation of MQTT matching for filters with + alone.
func matchesFilter(filter, topic string) bool {
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	if topic == "" || strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i := range f {
		if f[i] == "#" {
			return true // also matches the parent
		}
		if i == len(l) || f[i] != "+" && f[i] != l[i] {
			return false
		}
	}
	return len(f) == len(l)
}

func testMatchesWhatItsFilterMatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := mustPattern(t, genPattern().Draw(t, "pattern"))
		level := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "$s", "x.y", "ü", ""}), rapid.StringMatching(`[a-z]{1,3}`))
		topic := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/")

		var m subjects.Match
		require.Equal(t, matchesFilter(p.Filter(), topic), p.Match([]byte(topic), &m))
	})
}

func TestPatternTail(t *testing.T) {
	t.Parallel()
	p := mustPattern(t, "zigbee2mqtt/{device}/{rest...}")
	var m subjects.Match
	require.True(t, p.Match([]byte("zigbee2mqtt/lamp/a.b//c"), &m))
	require.Equal(t, "a.b//c", string(m.Get("rest")))
	require.Equal(t, "zigbee2mqtt.lamp.a%2Eb.%00.c", string(p.Template().Append(nil, &m)))
	require.False(t, p.Match([]byte("zigbee2mqtt/lamp"), &m))
	require.False(t, p.Match([]byte("zigbee2mqtt/lamp/"+strings.Repeat("x/", 30)+"x"), &m), "more tokens than a subject has")

	all := mustPattern(t, "{all...}")
	require.Equal(t, "#", all.Filter())
	require.Equal(t, ">", all.StreamSubject())
	require.True(t, all.Match([]byte("a/b"), &m))
	require.False(t, all.Match([]byte("$SYS/a"), &m))

	template, err := subjects.ParseTemplate("home.{device}.{rest...}", p)
	require.NoError(t, err)
	require.Equal(t, "home.*.>", template.StreamSubject())
	for text, says := range map[string]string{
		"home.{rest...}.{device}": "column 6: {rest...} has any number of levels: it must be at the end",
		"home.{device}.{rest}":    "write it as the topic has it: {rest...}",
		"home.{device...}.x":      "write it as the topic has it: {device}",
		"home.{rest...}x":         "a capture is a whole token",
		"home.{a.b...}":           "a capture is a whole token",
	} {
		_, err := subjects.ParseTemplate(text, p)
		require.ErrorContains(t, err, says)
	}
}

func TestPatternFixedDevice(t *testing.T) {
	t.Parallel()
	p, err := mustPattern(t, "tele/{device}/{type}").WithDevice("home.1", "")
	require.NoError(t, err)
	require.NoError(t, p.RequireDevice())
	require.True(t, p.NamesDevice())
	var m subjects.Match
	require.True(t, p.Match([]byte("tele/plug/STATE"), &m))
	require.Equal(t, "home.1/plug", string(m.Tenant())+"/"+string(m.Device()))
	require.NoError(t, m.CheckDevice())
	template, err := subjects.ParseTemplate("{tenant}.{device}.{type}", p)
	require.NoError(t, err)
	require.Equal(t, "home%2E1.plug.STATE", string(template.Append(nil, &m)))

	fixed, err := mustPattern(t, "spBv1.0/STATE/host").WithDevice("default", "host")
	require.NoError(t, err)
	require.False(t, fixed.NamesDevice())
	require.NoError(t, fixed.RequireDevice())

	_, err = mustPattern(t, "{tenant}/x").WithDevice("a", "b")
	require.ErrorContains(t, err, "captures {tenant}: leave out either")
	for _, bad := range []string{"a/b", "+", "#", "a\x00", "\xff"} {
		_, err = mustPattern(t, "x").WithDevice("a", bad)
		require.ErrorContains(t, err, "the fixed device", bad)
	}
	_, err = mustPattern(t, "x/{device}").WithDevice("", "")
	require.NoError(t, err)
	require.ErrorContains(t, mustPattern(t, "x/{device}").RequireDevice(), "it lacks {tenant}")
}
