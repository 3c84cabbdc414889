//go:build unix && !linux

package journal

import (
	"os"
	"time"
)

// allocate allocates size bytes of blocks for f.
func allocate(f *os.File, size int) error { return writeZeros(f, size) }

// statusChanged returns the modification time of a file.
func statusChanged(info os.FileInfo) time.Time { return info.ModTime() }
