//go:build !unix

package screen

import (
	"errors"
	"os"
)

// readKeys is for unix only.
func readKeys(*os.File) (keys <-chan byte, restore func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

// Resized delivers nothing.
func Resized() (changes <-chan os.Signal, stop func()) { return nil, func() {} }
