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
	clearLine  = "\x1b[K" // from the cursor
	clearBelow = "\x1b[J"
	clearAll   = "\x1b[2J\x1b[H"

	// The alternate screen, without line wrapping. When it is left, the previous content reappears.
	enterFull = "\x1b[?1049h\x1b[?7l\x1b[2J\x1b[H"
	leaveFull = "\x1b[?7h\x1b[?1049l"

	// LeastColumns is the minimum width of a terminal for a table.
	LeastColumns = 50
)

// Screen redraws lines in place on a terminal. To avoid flicker, each frame is a single write, and lines
// are overwritten without being cleared first.
type Screen struct {
	out  io.Writer
	size func() (columns, rows int, ok bool)
	// Intro is printed again after the terminal's size has changed, because the terminal then wraps
	// its content differently.
	Intro string

	columns, rows int
	drawn         int // number of lines of the last frame; the cursor is in the last line
	full          bool
}

// New returns a screen for a table of the given height. It returns nil if out is not a terminal, or is
// too small.
func New(out io.Writer, height int) *Screen {
	s := onTerminal(out)
	if s == nil || s.columns < LeastColumns || s.rows <= height {
		return nil
	}
	return s
}

// Interact calls body with the whole terminal, of any size, and its keys. It restores the terminal when
// body returns or panics. If in or out is not a terminal, it does nothing and returns false.
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

// Rows returns the number of lines of the terminal.
func (s *Screen) Rows() int { return s.rows }

// Draw replaces the frame with the lines that render returns for the terminal's width.
func (s *Screen) Draw(render func(columns int) []string) {
	var b bytes.Buffer
	b.WriteString(hideCursor)
	if columns, rows, ok := s.size(); ok && (columns != s.columns || rows != s.rows) {
		s.columns, s.rows, s.drawn = columns, rows, 0
		b.WriteString(clearAll + s.Intro)
	}
	s.toTop(&b)
	// The cursor stays in the last line, so that a frame can fill the terminal without scrolling.
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
	_, _ = s.out.Write(b.Bytes()) // an error means that the terminal was closed, which ends the context
}

// End removes the frame and shows the cursor again.
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
