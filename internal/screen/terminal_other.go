//go:build !unix

package screen

import (
	"errors"
	"os"
)

// terminalSize is not supported on this platform and returns false.
func terminalSize(*os.File) (columns, rows int, ok bool) { return 0, 0, false }

// readKeys is not supported on this platform.
func readKeys(*os.File) (keys <-chan byte, restore func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

// Resized delivers nothing on this platform.
func Resized() (changes <-chan os.Signal, stop func()) { return nil, func() {} }
