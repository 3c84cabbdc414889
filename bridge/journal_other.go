//go:build !unix

package bridge

import (
	"errors"
	"os"
	"time"
)

// ErrJournalLocked means that another process has the journal open.
var ErrJournalLocked = errors.New("journal is in use by another process")

// OpenJournal needs mapped files, which this build does for Unix alone.
func OpenJournal(JournalOptions) (Opened, error) {
	return Opened{}, errors.New("open journal: a state directory is supported on Unix alone; leave state_dir empty")
}

// statusChanged returns when a file was last changed.
func statusChanged(info os.FileInfo) time.Time { return info.ModTime() }
