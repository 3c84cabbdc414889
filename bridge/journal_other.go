//go:build !unix

package bridge

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrJournalLocked means that another process has the journal open.
var ErrJournalLocked = errors.New("journal is in use by another process")

// OpenJournal needs mapped files, which this build does for Unix alone.
func OpenJournal(JournalOptions) (Opened, error) {
	return Opened{}, fmt.Errorf("open journal: %w: a state directory is for Unix alone", errors.ErrUnsupported)
}

// statusChanged returns when a file was last changed.
func statusChanged(info os.FileInfo) time.Time { return info.ModTime() }
