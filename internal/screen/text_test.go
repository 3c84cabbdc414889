package screen

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADeviceCannotCommandTheTerminal(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a?[2Jb??c?d", Printable("a\x1b[2Jb\r\nc\u202ed"))
}

func TestClipKeepsToItsColumns(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abcdef", Clip("abcdef", 6))
	require.Equal(t, "ab...", Clip("abcdef", 5))
	require.Equal(t, "abc", Clip("abcdef", 3))
	require.Equal(t, "", Clip("abcdef", -1))
}

func TestGroupedSetsACommaAfterThreeDigits(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, Grouped(n))
	}
}
