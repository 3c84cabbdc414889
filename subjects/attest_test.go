package subjects_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/subjects"
)

// seenTopic is one that EMQX 5.8.9 wrote.
const seenTopic = "bridge/v1/d/000660F22358AE4BB44B000005020002/1795442951630/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry"

func mustPrefix(t require.TestingT, text string) *subjects.Prefix {
	p, err := subjects.ParsePrefix(text)
	require.NoError(t, err)
	return p
}

func TestAttestedTopic(t *testing.T) {
	t.Parallel()
	t.Run("broker topic is parsed and rebuilt", testBrokerTopicIsParsedAndRebuilt)
	t.Run("any attestation survives a round trip", testAnyAttestationSurvivesARoundTrip)
}

func testBrokerTopicIsParsedAndRebuilt(t *testing.T) {
	t.Parallel()
	p := mustPrefix(t, "bridge/v1")
	require.Equal(t, "bridge/v1", p.String())
	a, rest, err := p.Cut([]byte(seenTopic))
	require.NoError(t, err)
	require.Equal(t, "d", string(a.Partition))
	require.Equal(t, "000660F22358AE4BB44B000005020002", string(a.ID))
	require.Equal(t, int64(1795442951630), a.Millis)
	require.Equal(t, "tenant/acme/device/dev-1/telemetry", string(rest))
	cn, err := subjects.DecodeCN(nil, a.CNHex)
	require.NoError(t, err)
	require.Equal(t, "acme/dev-1", string(cn))
	require.Equal(t, seenTopic, string(p.Append(nil, a, rest)))
}

func TestAttestedTopicErrors(t *testing.T) {
	t.Parallel()
	p := mustPrefix(t, "bridge/v1")
	for _, tc := range []struct {
		name, topic string
		want        error
	}{
		{"plain topic", "tenant/acme/device/dev-1/telemetry", subjects.ErrNotAttested},
		{"empty", "", subjects.ErrNotAttested},
		{"prefix alone", "bridge/v1", subjects.ErrNotAttested},
		{"longer level", "bridge/v10/d/id/1/61/t", subjects.ErrNotAttested},
		{"other case", "Bridge/v1/d/id/1/61/t", subjects.ErrNotAttested},
		{"nothing after the prefix", "bridge/v1/", subjects.ErrAttestationShort},
		{"no time", "bridge/v1/d/id", subjects.ErrAttestationShort},
		{"no CN level", "bridge/v1/d/id/1", subjects.ErrAttestationShort},
		{"no topic level", "bridge/v1/d/id/1/61", subjects.ErrAttestationShort},
		{"empty topic", "bridge/v1/d/id/1/61/", subjects.ErrAttestationShort},
		{"no partition", "bridge/v1//id/1/61/t", subjects.ErrPartition},
		{"no id", "bridge/v1/d//1/61/t", subjects.ErrBrokerID},
		{"id with a line break", "bridge/v1/d/i\r\nd/1/61/t", subjects.ErrBrokerID},
		{"id with a space", "bridge/v1/d/i d/1/61/t", subjects.ErrBrokerID},
		{"id outside ASCII", "bridge/v1/d/ü/1/61/t", subjects.ErrBrokerID},
		{"id of 65 bytes", "bridge/v1/d/" + strings.Repeat("0", 65) + "/1/61/t", subjects.ErrBrokerID},
		{"no time digits", "bridge/v1/d/id//61/t", subjects.ErrBrokerTime},
		{"undefined time", "bridge/v1/d/id/undefined/61/t", subjects.ErrBrokerTime},
		{"negative time", "bridge/v1/d/id/-1/61/t", subjects.ErrBrokerTime},
		{"signed time", "bridge/v1/d/id/+1/61/t", subjects.ErrBrokerTime},
		{"fraction", "bridge/v1/d/id/1.5/61/t", subjects.ErrBrokerTime},
		{"time beyond an int64", "bridge/v1/d/id/9223372036854775808/61/t", subjects.ErrBrokerTime},
		{"time far beyond", "bridge/v1/d/id/99999999999999999999999999/61/t", subjects.ErrBrokerTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, rest, err := p.Cut([]byte(tc.topic))
			require.ErrorIs(t, err, tc.want)
			require.Zero(t, a)
			require.Nil(t, rest)
		})
	}
	for _, topic := range []string{
		"bridge/v1/d/id/9223372036854775807/61/t",
		"bridge/v1/d/" + strings.Repeat("0", 64) + "/0/61/t",
		"bridge/v1/d/id/007//t",
		"bridge/v1/d/id/1/61//",
	} {
		_, _, err := p.Cut([]byte(topic))
		require.NoError(t, err, topic)
	}
}

func TestDecodeCN(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hex, cn string
		want    error
	}{
		{"61636D652F6465762D31", "acme/dev-1", nil},
		{"61636d652f6465762d31", "acme/dev-1", nil},
		{"61636D652F2B", "acme/+", nil},
		{"00FFfF0d0A", "\x00\xff\xff\r\n", nil},
		{"", "", subjects.ErrNoCN},
		{"undefined", "", subjects.ErrNoCN},
		{"756E646566696E6564", "", subjects.ErrNoCN},
		{"756e646566696e6564", "", subjects.ErrNoCN},
		{"6", "", subjects.ErrCNHex},
		{"616", "", subjects.ErrCNHex},
		{"6G", "", subjects.ErrCNHex},
		{"acme", "", subjects.ErrCNHex},
		{"61 6", "", subjects.ErrCNHex},
	} {
		got, err := subjects.DecodeCN([]byte("kept:"), []byte(tc.hex))
		require.ErrorIs(t, err, tc.want, tc.hex)
		require.Equal(t, "kept:"+tc.cn, string(got), tc.hex)
	}
	require.Equal(t, "61636D652F6465762D31", string(subjects.AppendCN(nil, []byte("acme/dev-1"))))
}

func TestParsePrefixErrors(t *testing.T) {
	t.Parallel()
	for prefix, says := range map[string]string{
		"":                        "it is empty",
		"bridge/v1/":              "it has an empty level",
		"/bridge":                 "it has an empty level",
		"bridge//v1":              "it has an empty level",
		"/":                       "it has an empty level",
		"bridge/+":                "wildcards",
		"bridge/#":                "wildcards",
		"bridge/{p}":              "no captures",
		"$bridge":                 "belong to the broker",
		"a\x00":                   "without NUL",
		"\xff":                    "UTF-8",
		strings.Repeat("a", 1025): "it has 1025 bytes",
	} {
		p, err := subjects.ParsePrefix(prefix)
		require.ErrorContains(t, err, says, prefix)
		require.Nil(t, p)
	}
}

func TestPrefixFilter(t *testing.T) {
	t.Parallel()
	prefix, p := mustPrefix(t, "bridge/v1"), mustPattern(t, telemetryPattern)
	require.Equal(t, "bridge/v1/d/+/+/+/tenant/+/device/+/+", prefix.Filter("d", p))
	require.Equal(t, "bridge/v1/+/+/+/+/tenant/+/device/+/+", prefix.Filter("", p))
	require.Equal(t, "bridge/v1/+/+/+/+/tenant/+/device/+/+", prefix.Filter("+", p))
	require.True(t, matchesFilter(prefix.Filter("d", p), seenTopic))
	require.False(t, matchesFilter(prefix.Filter("e", p), seenTopic))
}

func testAnyAttestationSurvivesARoundTrip(t *testing.T) {
	t.Parallel()
	prefix := mustPrefix(t, "bridge/v1")
	rapid.Check(t, func(t *rapid.T) {
		cn := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "cn")
		want := subjects.Attestation{
			Partition: []byte(rapid.StringMatching(`[0-9a-f]`).Draw(t, "partition")),
			ID:        []byte(rapid.StringMatching(`[!-.0-~]{1,64}`).Draw(t, "id")),
			Millis:    rapid.Int64Range(0, math.MaxInt64).Draw(t, "millis"),
			CNHex:     subjects.AppendCN(nil, cn),
		}
		topic := genTopic().Draw(t, "topic")
		got, rest, err := prefix.Cut(prefix.Append(nil, want, []byte(topic)))
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, topic, string(rest))
		decoded, err := subjects.DecodeCN(nil, got.CNHex)
		require.NoError(t, err)
		require.Equal(t, cn, decoded)
	})
}

func FuzzPrefixCut(f *testing.F) {
	for _, s := range []string{
		seenTopic, "bridge/v1", "bridge/v1/", "bridge/v1/d/id/1/61", "bridge/v1//id/1/61/t", "bridge/v1/d/id/9223372036854775808/61/t",
		"bridge/v1/d/id/007/756E646566696E6564/t", "bridge/v1/d/id/1/undefined/t", "bridge/v1/d/id/1//t", "tenant/acme",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, topic []byte) {
		prefix := mustPrefix(t, "bridge/v1")
		a, rest, err := prefix.Cut(topic)
		if err != nil {
			require.Zero(t, a)
			require.Nil(t, rest)
			return
		}
		require.NotEmpty(t, a.Partition)
		require.NotEmpty(t, a.ID)
		require.NotEmpty(t, rest)
		require.GreaterOrEqual(t, a.Millis, int64(0))
		again, restAgain, err := prefix.Cut(prefix.Append(nil, a, rest))
		require.NoError(t, err)
		require.Equal(t, a, again)
		require.Equal(t, string(rest), string(restAgain))

		cn, err := subjects.DecodeCN(nil, a.CNHex)
		if err != nil {
			require.Empty(t, cn)
			return
		}
		require.Equal(t, strings.ToUpper(string(a.CNHex)), string(subjects.AppendCN(nil, cn)))
	})
}
