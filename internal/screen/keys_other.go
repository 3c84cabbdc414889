//go:build !unix

package screen

import (
	"errors"
	"os"
)

// readKeys is not supported on this platform.
func readKeys(*os.File) (keys <-chan byte, restore func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

// Resized delivers nothing on this platform.
func Resized() (changes <-chan os.Signal, stop func()) { return nil, func() {} }
