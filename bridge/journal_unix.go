//go:build unix && !linux

package bridge

import "os"

// allocate gives f size bytes of allocated blocks.
func allocate(f *os.File, size int) error { return writeZeros(f, size) }
