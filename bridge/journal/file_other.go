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

// Open needs mapped files, which are implemented for Unix only.
func Open(Options) (Opened, error) {
	return Opened{}, fmt.Errorf("open journal: %w: a state directory is for Unix alone", errors.ErrUnsupported)
}

// statusChanged returns when a file was last changed.
func statusChanged(info os.FileInfo) time.Time { return info.ModTime() }
