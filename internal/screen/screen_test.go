package screen

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// terminal interprets the output of a screen. It fails if text would wrap or scroll: a frame must
// do neither.
type terminal struct {
	t             require.TestingT
	columns, rows int
	lines         []string
	x, y          int
	cursor        bool
	writes        int
}

func newTerminal(t require.TestingT, columns, rows int) *terminal {
	return &terminal{t: t, columns: columns, rows: rows, lines: make([]string, rows), cursor: true}
}

func (t *terminal) Write(p []byte) (int, error) {
	t.writes++
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\r':
			t.x = 0
		case p[i] == '\n':
			t.y++
			require.Less(t.t, t.y, t.rows, "scrolled")
		case p[i] == 0x1b:
			end := i + 2 + bytes.IndexFunc(p[i+2:], func(r rune) bool { return r >= '@' })
			t.command(string(p[i+2:end]), p[end])
			i = end
		default:
			require.Less(t.t, t.x, t.columns-1, "filled a line, which may wrap")
			l := t.lines[t.y] + strings.Repeat(" ", max(0, t.x-len(t.lines[t.y])))
			t.lines[t.y] = l[:t.x] + string(p[i]) + l[min(len(l), t.x+1):]
			t.x++
		}
	}
	return len(p), nil
}

func (t *terminal) command(parameter string, name byte) {
	switch name {
	case 'A':
		n, err := strconv.Atoi(parameter)
		require.NoError(t.t, err)
		t.y -= n
		require.GreaterOrEqual(t.t, t.y, 0, "went above the screen")
	case 'K':
		t.clear()
	case 'J':
		if parameter == "2" {
			t.lines = make([]string, t.rows)
			return
		}
		t.clear()
		for y := t.y + 1; y < t.rows; y++ {
			t.lines[y] = ""
		}
	case 'H':
		t.x, t.y = 0, 0
	default:
		t.cursor = name == 'h'
		require.Equal(t.t, "?25", parameter)
	}
}

func (t *terminal) clear() {
	t.lines[t.y] = t.lines[t.y][:min(t.x, len(t.lines[t.y]))]
}

func (t *terminal) text() string { return strings.TrimRight(strings.Join(t.lines, "\n"), "\n") }

func TestScreen(t *testing.T) {
	t.Parallel()
	t.Run("terminal shows the last frame", testTerminalShowsTheLastFrame)
	t.Run("resized terminal is redrawn from the top", testResizedTerminalIsRedrawnFromTheTop)
	t.Run("no screen without a terminal", testNoScreenWithoutATerminal)
}

func testTerminalShowsTheLastFrame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns, rows := rapid.IntRange(10, 90).Draw(t, "columns"), rapid.IntRange(3, 30).Draw(t, "rows")
		term := newTerminal(t, columns, rows)
		s := &Screen{out: term, columns: columns, rows: rows, size: func() (int, int, bool) { return columns, rows, true }}
		frames := rapid.SliceOfN(rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,100}`), 1, 40), 1, 5).Draw(t, "frames")
		for i, frame := range frames {
			s.Draw(func(int) []string { return frame })
			require.Equal(t, i+1, term.writes, "a frame is one write")
			require.False(t, term.cursor)
			var want []string
			for _, l := range frame[:min(len(frame), rows)] {
				want = append(want, Clip(l, columns-1))
			}
			require.Equal(t, strings.TrimRight(strings.Join(want, "\n"), "\n"), term.text())
		}
		s.End()
		require.True(t, term.cursor, "the cursor is back")
		require.Empty(t, term.text())
	})
}

func testResizedTerminalIsRedrawnFromTheTop(t *testing.T) {
	t.Parallel()
	term := newTerminal(t, 80, 24)
	columns := 80
	s := &Screen{
		out: term, columns: columns, rows: 24, Intro: "intro\r\n",
		size: func() (int, int, bool) { return columns, 24, true },
	}
	frame := func(columns int) []string { return []string{fmt.Sprint(columns), "second"} }
	s.Draw(frame)
	columns = 70
	s.Draw(frame)
	require.Equal(t, "intro\n70\nsecond", term.text())
	s.Draw(frame)
	require.Equal(t, "intro\n70\nsecond", term.text())
}

func testNoScreenWithoutATerminal(t *testing.T) {
	t.Parallel()
	require.Nil(t, New(&bytes.Buffer{}, 12))
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer file.Close()
	require.Nil(t, New(file, 12))
}
