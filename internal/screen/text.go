package screen

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// maxMarks bounds the combining marks per letter. More marks would be drawn over the lines above.
const maxMarks = 2

// Width returns the number of columns of a line. A wide character has two columns; a combining mark and a
// colour sequence ("\x1b[1;31m") have none.
func Width(s string) (columns int) {
	for s != "" {
		n, w := next(s)
		s, columns = s[n:], columns+w
	}
	return columns
}

// next returns the number of bytes and columns of the first character or colour sequence of s.
func next(s string) (bytes, columns int) {
	if s[0] < utf8.RuneSelf && s[0] != '\x1b' {
		return 1, 1
	}
	if strings.HasPrefix(s, "\x1b[") {
		if end := strings.IndexByte(s, 'm'); end > 0 {
			return end + 1, 0
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return n, 0
	case r < 0x1100:
		return n, 1
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return n, 2
	}
	return n, 1
}

// Clip shortens a line to the given number of columns. A shortened line ends in "...".
func Clip(s string, columns int) string {
	if Width(s) <= columns {
		return s
	}
	limit, end := columns-3, "..."
	if columns < 4 {
		limit, end = columns, ""
	}
	cut, used := 0, 0
	for cut < len(s) {
		n, w := next(s[cut:])
		if used+w > limit {
			break
		}
		cut, used = cut+n, used+w
	}
	if strings.Contains(s[:cut], "\x1b") {
		end += "\x1b[0m"
	}
	return s[:cut] + end
}

// Pad appends spaces to a text up to the given number of columns.
func Pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-Width(s), 0))
}

// Printable makes a device's text safe for a terminal. It replaces control characters, invisible
// characters, characters that change the text direction, and combining marks beyond two per letter with
// question marks. Letters of all languages are kept.
func Printable(s string) string {
	marks := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\ufe0e' || r == '\ufe0f': // variation selectors
			return -1
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			r = '?'
		}
		if !unicode.In(r, unicode.Mn, unicode.Me) {
			marks = 0
			return r
		}
		if marks++; marks > maxMarks {
			return '?'
		}
		return r
	}, s)
}

// Grouped formats n with a comma after every three digits.
func Grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
