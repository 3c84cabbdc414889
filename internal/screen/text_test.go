package screen

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a?[2Jb??c?d", Printable("a\x1b[2Jb\r\nc\u202ed"))
	require.Equal(t, "温度 é ❤ ??", Printable("温度 é ❤\ufe0f \u009b\xff"))
	require.Equal(t, "e\u0301\u0302??e\u0301", Printable("e\u0301\u0302\u0303\u0304e\u0301"), "marks are not piled up")
}

func TestWidth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "abc": 3, "温度": 4, "e\u0301": 1, "\x1b[1;31mred\x1b[0m": 3, "ｗｉｄｅ": 8, "한글": 4, "🚀": 2, "▁█": 2, "\x1b[": 2,
	} {
		require.Equal(t, want, Width(text), "%q", text)
	}
	require.Equal(t, "温度   ", Pad("温度", 7))
	require.Equal(t, "温度", Pad("温度", 3))
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abcdef", Clip("abcdef", 6))
	require.Equal(t, "ab...", Clip("abcdef", 5))
	require.Equal(t, "abc", Clip("abcdef", 3))
	require.Equal(t, "", Clip("abcdef", -1))
	require.Equal(t, "温...", Clip("温度計", 5))
	require.Equal(t, "温...", Clip("温度計計", 6), "half a letter is none")
	require.Equal(t, "\x1b[31mre...\x1b[0m", Clip("\x1b[31mred and more\x1b[0m", 5), "the colour ends")
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, Grouped(n))
	}
}
