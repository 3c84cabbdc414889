package lease

import (
	"context"
	"errors"
	"time"
)

// Store keeps the keys of all replicas. Any of its methods may fail while it
// cannot be reached; the coordinator then opens it again.
type Store interface {
	// Open finds the keys and begins to watch them. The channel first gives what
	// is there, then an Entry with Listed, then every change; a key that expires
	// is no change. It is closed, or merely silent, when the watch has ended.
	// Whatever an earlier Open began ends.
	Open(ctx context.Context) (Opened, error)
	// Put writes a key, whatever it held.
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Write writes a key whose latest revision is still the one given, 0 where it
	// has none or has expired; else the error is ErrChanged.
	Write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	// Read returns what a key holds now, or ErrAbsent.
	Read(ctx context.Context, key string) (Entry, error)
	// Close ends the watch.
	Close()
}

// Opened is a store within reach.
type Opened struct {
	// TTL is how long a key lives after it was written.
	TTL     time.Duration
	Entries <-chan Entry
}

// Entry is a key at one revision.
type Entry struct {
	Key      string
	Value    []byte // empty: deleted, by hand
	Revision uint64
	Listed   bool // no entry: what was there has been given
}

var (
	// ErrChanged: somebody else has written the key, or it has not expired yet.
	ErrChanged = errors.New("the key has another revision")
	// ErrAbsent: nobody has written the key, or it has expired.
	ErrAbsent = errors.New("no such key")
)
