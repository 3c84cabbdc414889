package subjects_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/subjects"
)

// topicSubjects are pairs that map in both directions.
var topicSubjects = []struct{ name, topic, subject string }{
	{"telemetry", "tenant/acme/device/dev-1/telemetry", "tenant.acme.device.dev-1.telemetry"},
	{"shadow", "tenant/acme/device/dev-1/shadow/reported", "tenant.acme.device.dev-1.shadow.reported"},
	{"one level", "a", "a"},
	{"dot", "v1.2/x", "v1%2E2.x"},
	{"wildcards of NATS", "a/*/>/b*>", "a.%2A.%3E.b%2A%3E"},
	{"wildcards of MQTT stand for themselves", "a/+/#", "a.+.#"},
	{"space", "my device/x", "my%20device.x"},
	{"line break", "a\r\nb/\t", "a%0D%0Ab.%09"},
	{"lowest and highest control bytes", "\x01/\x1f/\x7f", "%01.%1F.%7F"},
	{"printable ASCII at its ends", "!/~", "!.~"},
	{"UTF-8 byte by byte", "grün/日", "gr%C3%BCn.%E6%97%A5"},
	{"not UTF-8", "\xff/\x80", "%FF.%80"},
	{"percent", "100%/%2E", "100%25.%252E"},
	{"percent like an empty level", "a/%00", "a.%2500"},
	{"empty level inside", "a//b", "a.%00.b"},
	{"leading slash", "/a", "%00.a"},
	{"trailing slash", "a/", "a.%00"},
	{"slash alone", "/", "%00.%00"},
	{"leading dollar", "$SYS/x", "%24SYS.x"},
	{"dollar alone", "$", "%24"},
	{"dollar alone in the first level", "$/a", "%24.a"},
	{"two leading dollars", "$$/a", "%24$.a"},
	{"dollar further on", "a$/$b", "a$.$b"},
	{"dollar after an empty level", "/$a", "%00.$a"},
	{"inbox", "_INBOX/a", "_INBOX.a"},
	{"32 levels", strings.Repeat("a/", 31) + "a", strings.Repeat("a.", 31) + "a"},
	{"1,024 bytes", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
	{"1,024 bytes by escapes", strings.Repeat(".", 341) + "a", strings.Repeat("%2E", 341) + "a"},
}

func TestTopicSubjectPairs(t *testing.T) {
	t.Parallel()
	for _, tc := range topicSubjects {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			subject, err := subjects.FromTopic(tc.topic)
			require.NoError(t, err)
			require.Equal(t, tc.subject, subject)

			topic, err := subjects.ToTopic(tc.subject)
			require.NoError(t, err)
			require.Equal(t, tc.topic, topic)

			require.Equal(t, "kept "+tc.subject, string(subjects.AppendSubject([]byte("kept "), []byte(tc.topic))))
			plain := strings.ReplaceAll(tc.topic, "/", ".")
			require.Equal(t, subject != plain, subjects.NeedsEscape([]byte(tc.topic)))
			require.Equal(t, len(subject) != len(tc.topic), subjects.NeedsEscape([]byte(tc.topic)))
		})
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	t.Run("bytes outside the token set are escaped", testBytesOutsideTheTokenSetAreEscaped)
	t.Run("every legal topic survives a round trip", testEveryLegalTopicSurvivesARoundTrip)
	t.Run("two topics never share a subject", testTwoTopicsNeverShareASubject)
	t.Run("every accepted subject survives a round trip", testEveryAcceptedSubjectSurvivesARoundTrip)
}

func testBytesOutsideTheTokenSetAreEscaped(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		want := string([]byte{byte(c)})
		if c <= ' ' || c >= 0x7f || strings.IndexByte(".*>%/", byte(c)) >= 0 {
			want = fmt.Sprintf("%%%02X", c)
		}
		require.Equal(t, "a"+want, string(subjects.AppendToken(nil, []byte{'a', byte(c)})), "byte 0x%02X", c)
	}
	require.Equal(t, "%00", string(subjects.AppendToken(nil, nil)))
	require.Equal(t, "$", string(subjects.AppendToken(nil, []byte("$"))))
}

func TestFromTopicErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, topic string
		want        error
	}{
		{"empty", "", subjects.ErrTopicEmpty},
		{"NUL alone", "\x00", subjects.ErrTopicNUL},
		{"NUL inside", "a/b\x00", subjects.ErrTopicNUL},
		{"33 levels", strings.Repeat("a/", 32) + "a", subjects.ErrTooManyTokens},
		{"33 empty levels", strings.Repeat("/", 32), subjects.ErrTooManyTokens},
		{"1,025 bytes", strings.Repeat("a", 1025), subjects.ErrSubjectTooLong},
		{"1,025 bytes by escapes", strings.Repeat(".", 341) + "aa", subjects.ErrSubjectTooLong},
		{"the longest topic of MQTT", strings.Repeat("a", 65535), subjects.ErrSubjectTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			subject, err := subjects.FromTopic(tc.topic)
			require.ErrorIs(t, err, tc.want)
			require.Empty(t, subject)
		})
	}
}

func TestToTopicErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		subject, says string
		want          error
	}{
		{"", "empty token at byte 0", subjects.ErrNotCanonical},
		{".", "empty token at byte 0", subjects.ErrNotCanonical},
		{"a..b", "empty token at byte 2", subjects.ErrNotCanonical},
		{"a.", "empty token at byte 2", subjects.ErrNotCanonical},
		{"%00", "the empty topic", subjects.ErrNotCanonical},
		{"a%00", "byte 1 escapes 0x00", subjects.ErrNotCanonical},
		{"%00%00", "byte 0 escapes 0x00", subjects.ErrNotCanonical},
		{"a.*", "byte 2 is 0x2A, which is written %2A", subjects.ErrNotCanonical},
		{"a.>", "byte 2 is 0x3E, which is written %3E", subjects.ErrNotCanonical},
		{"a b", "byte 1 is 0x20, which is written %20", subjects.ErrNotCanonical},
		{"a/b", "byte 1 is 0x2F", subjects.ErrNotCanonical},
		{"grün", "byte 2 is 0xC3", subjects.ErrNotCanonical},
		{"$SYS.x", "byte 0 is 0x24, which is written %24", subjects.ErrNotCanonical},
		{"a.%24b", "byte 2 escapes 0x24", subjects.ErrNotCanonical},
		{"a%24", "byte 1 escapes 0x24", subjects.ErrNotCanonical},
		{"a%2Fb", "byte 1 escapes 0x2F", subjects.ErrNotCanonical},
		{"%41", "byte 0 escapes 0x41", subjects.ErrNotCanonical},
		{"a%2e", "upper-case", subjects.ErrNotCanonical},
		{"a%GG", "upper-case", subjects.ErrNotCanonical},
		{"a%", "byte 1 is cut off", subjects.ErrNotCanonical},
		{"a%2", "byte 1 is cut off", subjects.ErrNotCanonical},
		{"a%2.E", "byte 1 is cut off", subjects.ErrNotCanonical},
		{strings.Repeat("a.", 32) + "a", "32 tokens", subjects.ErrTooManyTokens},
		{strings.Repeat("a", 1025), "1,024 bytes", subjects.ErrSubjectTooLong},
	} {
		topic, err := subjects.ToTopic(tc.subject)
		require.ErrorIs(t, err, tc.want, tc.subject)
		require.ErrorContains(t, err, tc.says, tc.subject)
		require.Empty(t, topic)
	}
}

func TestCheckSubject(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		subject string
		want    error
	}{
		{"tenant.acme.device.dev-1.telemetry", nil},
		{"_INBOXES.a", nil},
		{"a._INBOX.b", nil},
		{"_INBOX", subjects.ErrSubjectReserved},
		{"_INBOX.a", subjects.ErrSubjectReserved},
		{strings.Repeat("a.", 31) + "a", nil},
		{strings.Repeat("a.", 32) + "a", subjects.ErrTooManyTokens},
		{strings.Repeat("a", 1024), nil},
		{strings.Repeat("a", 1025), subjects.ErrSubjectTooLong},
	} {
		require.ErrorIs(t, subjects.CheckSubject([]byte(tc.subject)), tc.want, tc.subject)
	}
}

// genTopic draws legal topics with many characters that need escapes.
func genTopic() *rapid.Generator[string] {
	special := rapid.SampledFrom([]string{"/", "//", "$", "%", "%00", "%24", "%2E", ".", "*", ">", "+", "#", " ", "\r\n", "\x7f", "\xff", "ü", "_INBOX"})
	piece := rapid.OneOf(special, rapid.StringMatching(`[a-z0-9_-]{1,8}`), rapid.StringN(1, 4, -1))
	return rapid.Custom(func(t *rapid.T) string {
		topic := strings.Join(rapid.SliceOfN(piece, 1, 20).Draw(t, "pieces"), "")
		return strings.ReplaceAll(topic, "\x00", "0")
	})
}

// genSubject draws strings similar to those that ToTopic accepts.
func genSubject() *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{".", "%00", "%24", "$", "%2E", "%2e", "%", "%C3%BC", "%25", "%41", "a", "/", "*", ".a.b"}),
		rapid.StringMatching(`[a-z]{1,4}`),
	)
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
	})
}

func testEveryLegalTopicSurvivesARoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { requireRoundTrip(t, genTopic().Draw(t, "topic")) })
}

func testTwoTopicsNeverShareASubject(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genTopic().Draw(t, "a"), genTopic().Draw(t, "b")
		if a != b {
			require.NotEqual(t, string(subjects.AppendSubject(nil, []byte(a))), string(subjects.AppendSubject(nil, []byte(b))))
		}
	})
}

func testEveryAcceptedSubjectSurvivesARoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { requireSubjectRoundTrip(t, genSubject().Draw(t, "subject")) })
}

// FuzzEscape uses each text as a topic and as a subject.
func FuzzEscape(f *testing.F) {
	for _, tc := range topicSubjects {
		f.Add(tc.topic)
		f.Add(tc.subject)
	}
	for _, s := range []string{"", "a\x00b", ".", "%00", "a%2e", "$JS.API", "a.%24", "a%2Fb", "%", "%00%00", "a%00", "%41", "_INBOX/a", "*/>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		requireRoundTrip(t, text)
		requireSubjectRoundTrip(t, text)
	})
}

// requireRoundTrip asserts that a topic either survives the round trip through a valid NATS
// subject, or is refused for a valid reason.
func requireRoundTrip(t require.TestingT, topic string) {
	appended := string(subjects.AppendSubject(nil, []byte(topic)))
	subject, err := subjects.FromTopic(topic)
	if err != nil {
		require.Empty(t, subject)
		illegal := topic == "" || strings.Contains(topic, "\x00")
		tooMuch := strings.Count(topic, "/") >= subjects.MaxTokens || len(appended) > subjects.MaxSubjectBytes
		require.True(t, illegal || tooMuch, "%q refused: %v", topic, err)
		return
	}
	require.Equal(t, appended, subject)
	require.LessOrEqual(t, len(subject), subjects.MaxSubjectBytes)
	require.NotEqual(t, byte('$'), subject[0])
	tokens := strings.Split(subject, ".")
	require.Len(t, tokens, strings.Count(topic, "/")+1)
	for _, token := range tokens {
		// ADR-6: term = (printable except dot, asterisk or gt)+
		require.NotEmpty(t, token)
		require.NotContains(t, token, "*")
		require.NotContains(t, token, ">")
		for i := range len(token) {
			require.True(t, token[i] >= 33 && token[i] <= 126, "%q", token)
		}
	}
	require.Equal(t, subject != strings.ReplaceAll(topic, "/", "."), subjects.NeedsEscape([]byte(topic)))
	require.Equal(t, len(subject) != len(topic), subjects.NeedsEscape([]byte(topic)))

	back, err := subjects.ToTopic(subject)
	require.NoError(t, err)
	require.Equal(t, topic, back)
}

// requireSubjectRoundTrip asserts that ToTopic accepts exactly the subjects that FromTopic returns.
func requireSubjectRoundTrip(t require.TestingT, subject string) {
	topic, err := subjects.ToTopic(subject)
	if err != nil {
		require.Empty(t, topic)
		return
	}
	back, err := subjects.FromTopic(topic)
	require.NoError(t, err)
	require.Equal(t, subject, back)
}
