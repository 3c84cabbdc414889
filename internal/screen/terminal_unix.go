//go:build unix

package screen

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

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

// readKeys delivers each pressed key without waiting for the end of a line. Ctrl-C remains a signal.
// Ctrl-Z is disabled, because a suspended program cannot restore the terminal. The reading goroutine
// runs until the process ends. restore restores the terminal's mode.
func readKeys(f *os.File) (keys <-chan byte, restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, nil, fmt.Errorf("read keys: %w", err)
	}
	mode := *before
	mode.Lflag &^= unix.ICANON | unix.ECHO
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	mode.Cc[unix.VSUSP] = vdisable
	if err := unix.IoctlSetTermios(fd, setTermios, &mode); err != nil {
		return nil, nil, fmt.Errorf("read keys: %w", err)
	}
	c := make(chan byte, 16)
	go func() {
		defer close(c)
		buffer := make([]byte, 16)
		for {
			n, err := f.Read(buffer)
			if err != nil {
				return
			}
			for _, key := range buffer[:n] {
				c <- key
			}
		}
	}()
	return c, func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}

// Resized delivers each change of the terminal's size until stop is called.
func Resized() (changes <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}
