//go:build !unix

package bridge

import "errors"

// ErrJournalLocked: another process has the journal open.
var ErrJournalLocked = errors.New("journal is in use by another process")

// OpenJournal needs mapped files, which this build does for Unix alone.
func OpenJournal(dir, clientID string) (j *Journal, movedTo string, why error, err error) {
	return nil, "", nil, errors.New("open journal: a state directory is supported on Unix alone; leave state_dir empty")
}
