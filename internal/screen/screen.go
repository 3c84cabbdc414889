package screen

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[K" // from the cursor on
	clearBelow = "\x1b[J"
	clearAll   = "\x1b[2J\x1b[H"

	// LeastColumns is the narrowest terminal that gets a table.
	LeastColumns = 50
)

// Screen redraws lines in place on a terminal. Each frame is one write, and
// nothing is cleared before it is overwritten: it does not flicker.
type Screen struct {
	out  io.Writer
	size func() (columns, rows int, ok bool)
	// Intro is printed again where the terminal's size changed: what is there
	// then has been wrapped anew, and is not where it was.
	Intro string

	columns, rows int
	drawn         int // lines of the last frame; the cursor is in the last of them
}

// New returns nil where out is no terminal that a table fits on.
func New(out io.Writer, height int) *Screen {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return nil
	}
	s := &Screen{out: out, size: func() (int, int, bool) { return terminalSize(file) }}
	if s.columns, s.rows, ok = s.size(); !ok || s.columns < LeastColumns || s.rows <= height {
		return nil
	}
	return s
}

// Draw replaces the frame by what render makes for so many columns.
func (s *Screen) Draw(render func(columns int) []string) {
	var b bytes.Buffer
	b.WriteString(hideCursor)
	if columns, rows, ok := s.size(); ok && (columns != s.columns || rows != s.rows) {
		s.columns, s.rows, s.drawn = columns, rows, 0
		b.WriteString(clearAll + s.Intro)
	}
	s.toTop(&b)
	// The cursor stays in the last line, so that a frame may fill the terminal
	// without scrolling it.
	lines := render(s.columns)
	if len(lines) > s.rows {
		lines = lines[:s.rows]
	}
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(Clip(l, s.columns-1) + clearLine)
	}
	b.WriteString(clearBelow)
	s.drawn = len(lines)
	_, _ = s.out.Write(b.Bytes()) // a terminal that went away: the context ends it
}

// End removes the frame and gives the cursor back.
func (s *Screen) End() {
	var b bytes.Buffer
	s.toTop(&b)
	b.WriteString(clearBelow + showCursor)
	s.drawn = 0
	_, _ = s.out.Write(b.Bytes())
}

func (s *Screen) toTop(b *bytes.Buffer) {
	if s.drawn > 0 {
		b.WriteString("\r")
	}
	if s.drawn > 1 {
		fmt.Fprintf(b, "\x1b[%dA", s.drawn-1)
	}
}
