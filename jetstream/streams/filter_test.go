package streams

import (
	"strings"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The alphabet is so small that filters often overlap.
func filterGen() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 4).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	})
}

func TestFilter(t *testing.T) {
	t.Parallel()
	t.Run("collide agrees with nats-server", testCollideAgreesWithNatsServer)
	t.Run("covers every subject of narrower filter", testCoversEverySubjectOfNarrowerFilter)
	t.Run("covers a subject", testCoversASubject)
}

func testCollideAgreesWithNatsServer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := filterGen().Draw(t, "a"), filterGen().Draw(t, "b")
		if got, want := overlap(a, b), natsd.SubjectsCollide(a, b); got != want {
			t.Fatalf("collide(%s, %s) = %v", a, b, got)
		}
	})
}

func testCoversEverySubjectOfNarrowerFilter(t *testing.T) {
	t.Parallel()
	// All subjects of up to 6 tokens over {a, b, c}. No generated filter is longer, and c
	// represents all unnamed tokens.
	var subjects []string
	level := []string{""}
	for range 6 {
		var next []string
		for _, prefix := range level {
			for _, token := range []string{"a", "b", "c"} {
				next = append(next, strings.TrimPrefix(prefix+"."+token, "."))
			}
		}
		level = next
		subjects = append(subjects, level...)
	}
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow := filterGen().Draw(t, "wide"), filterGen().Draw(t, "narrow")
		want := true
		for _, subject := range subjects {
			if Covers(narrow, subject) && !Covers(wide, subject) {
				want = false
				break
			}
		}
		if got := Covers(wide, narrow); got != want {
			t.Fatalf("Covers(%s, %s) = %v", wide, narrow, got)
		}
	})
}

func testCoversASubject(t *testing.T) {
	t.Parallel()
	require.True(t, Covers("tenant.*.device.*.*", "tenant.acme.device.dev-1.telemetry"))
	require.False(t, Covers("tenant.*.device.*.*", "tenant.acme.device.dev-1.shadow.reported"))
	require.True(t, Covers("tenant.>", "tenant.*.device.*.*"))
	require.False(t, Covers("tenant.*", "tenant"))
	require.False(t, Covers("tenant.>", "tenant"))
}
