//go:build unix

package screen

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize returns false if f is not a terminal or its size is unknown.
func terminalSize(f *os.File) (columns, rows int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 0, 0, false
	}
	return int(size.Col), int(size.Row), true
}
