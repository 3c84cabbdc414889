package lease

import (
	"context"
	"errors"
	"time"
)

// Store keeps the keys of all replicas. Any of its methods may fail while it
// cannot be reached; the coordinator then opens it again.
type Store interface {
	// Open finds the bucket, or creates it, and returns how long a key lives after it
	// was written.
	Open(ctx context.Context) (ttl time.Duration, err error)
	// Follow sends the keys that are there, an Entry with Listed, then every change; a
	// key that expires is no change. It returns when ctx ends, or when it cannot go on,
	// and says why.
	Follow(ctx context.Context, entries chan<- Entry) error
	// Put writes a key, whatever its value was.
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Write writes a key whose latest revision is still the one given, 0 where it
	// has none or has expired; else the error is ErrChanged.
	Write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	// Read returns the present value of a key, or ErrAbsent.
	Read(ctx context.Context, key string) (Entry, error)
}

// Entry is a key at one revision.
type Entry struct {
	Key      string
	Value    []byte // empty: deleted, by hand
	Revision uint64
	Listed   bool  // no entry: what was there has been given
	Ended    error // no entry: why Follow has returned; the last
}

var (
	// ErrChanged means that another replica has written the key, or that it has not expired
	// yet.
	ErrChanged = errors.New("the key has another revision")
	// ErrAbsent means that the key was never written, or has expired.
	ErrAbsent = errors.New("no such key")
)
