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

	// The other screen, whose lines do not wrap; what was on the terminal comes back.
	enterFull = "\x1b[?1049h\x1b[?7l\x1b[2J\x1b[H"
	leaveFull = "\x1b[?7h\x1b[?1049l"

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
	full          bool
}

// New returns nil where out is no terminal that a table fits on.
func New(out io.Writer, height int) *Screen {
	s := onTerminal(out)
	if s == nil || s.columns < LeastColumns || s.rows <= height {
		return nil
	}
	return s
}

// Interact gives body the whole terminal, of whatever size, and its keys. The terminal is
// as it was when body returns or panics. It returns false, and does nothing, where in or
// out is no terminal.
func Interact(in, out *os.File, body func(s *Screen, keys <-chan byte)) bool {
	s := onTerminal(out)
	if s == nil {
		return false
	}
	keys, restore, err := readKeys(in)
	if err != nil {
		return false
	}
	defer restore()
	s.full = true
	_, _ = io.WriteString(out, enterFull)
	defer s.End()
	body(s, keys)
	return true
}

func onTerminal(out io.Writer) *Screen {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return nil
	}
	s := &Screen{out: out, size: func() (int, int, bool) { return terminalSize(file) }}
	if s.columns, s.rows, ok = s.size(); !ok {
		return nil
	}
	return s
}

// Rows returns the lines that fit on the terminal.
func (s *Screen) Rows() int { return s.rows }

// Draw replaces the frame with the lines that render returns for the number of columns.
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
	if s.full {
		b.WriteString(leaveFull)
	}
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
