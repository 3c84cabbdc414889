package screen

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Clip shortens a line to so many columns; it ends in "..." where something is
// missing.
func Clip(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	r := []rune(s)
	if columns < 4 {
		return string(r[:max(columns, 0)])
	}
	return string(r[:columns-3]) + "..."
}

// Printable keeps a device's text from commanding the terminal: all but ASCII
// letters, digits and signs becomes a question mark, one column each.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Grouped writes n with a comma after every three digits.
func Grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
