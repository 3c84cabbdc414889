package verdict

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReasonString(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Reasons() {
		require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, r.String())
		require.False(t, seen[r.String()])
		seen[r.String()] = true
	}
	require.Len(t, seen, 12)
}
