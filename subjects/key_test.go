package subjects

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The characters that ADR-8 and its clients allow in a key.
var validKey = regexp.MustCompile(`^[-/_=\.a-zA-Z0-9]+$`)

func TestKeyRoundTrip(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"acme": "acme", "dev-1_A": "dev-1_A", "": "=00",
		"acme.eu": "acme=2Eeu", "a=b": "a=3Db", "a b": "a=20b", "*": "=2A", "größe": "gr=C3=B6=C3=9Fe", "100%": "100=25",
	} {
		require.Equal(t, token, string(AppendKey(nil, name)))
		back, err := ParseKey(token)
		require.NoError(t, err)
		require.Equal(t, name, back)
	}
}

func TestParseKeyErrors(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"":       "an empty name is written =00",
		"a.b":    "byte 0x2E is written =2E",
		"a/b":    "byte 0x2F is written =2F",
		"a%2Eb":  "byte 0x25 is written =25",
		"a=":     "an escape is cut off",
		"a=2":    "an escape is cut off",
		"a=2eb":  "=2e is not = and two upper-case",
		"a=41":   "=41 is the escape of a byte that needs none",
		"a=00":   "=00 is the escape of a byte",
		"=00=00": "=00 is the escape of a byte",
	} {
		_, err := ParseKey(token)
		require.ErrorIs(t, err, ErrNotAKey, token)
		require.ErrorContains(t, err, want, token)
	}
}

func FuzzKey(f *testing.F) {
	for _, name := range []string{"", "acme", "a.b", "=", "\x00", "=00", "größe"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token := string(AppendKey(nil, text))
		if !validKey.MatchString(token) {
			t.Fatalf("%q gives %q, which no bucket takes", text, token)
		}
		// No topic contains NUL.
		if back, err := ParseKey(token); !strings.Contains(text, "\x00") && (err != nil || back != text) {
			t.Fatalf("%q gives %q gives %q: %v", text, token, back, err)
		}
		if name, err := ParseKey(text); err == nil && string(AppendKey(nil, name)) != text {
			t.Fatalf("%q is read as %q, which is written otherwise", text, name)
		}
	})
}
