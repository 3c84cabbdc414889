//go:build !unix

package journal

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrLocked means that another process has the journal open.
var ErrLocked = errors.New("journal is in use by another process")

// Open requires memory-mapped files, which are implemented only for Unix.
func Open(Options) (Opened, error) {
	return Opened{}, fmt.Errorf("open journal: %w: journal files require Unix", errors.ErrUnsupported)
}

// statusChanged returns the modification time of a file.
func statusChanged(info os.FileInfo) time.Time { return info.ModTime() }
