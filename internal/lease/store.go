package lease

import (
	"context"
	"errors"
	"time"
)

// Store keeps the keys of all replicas. Any method may fail while the store is unreachable; the
// coordinator then opens it again.
type Store interface {
	// Open finds or creates the bucket and returns the lifetime of a key after it was written.
	Open(ctx context.Context) (ttl time.Duration, err error)
	// Follow sends the existing keys, an Entry with Listed, then every change; the expiry of a key
	// is not a change. It returns when ctx ends or when it fails, with the reason.
	Follow(ctx context.Context, entries chan<- Entry) error
	// Put writes a key unconditionally.
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Write writes a key if its latest revision is the given one (0: the key was never written, or
	// has expired). Otherwise it returns ErrChanged.
	Write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	// Read returns the present value of a key, or ErrAbsent.
	Read(ctx context.Context, key string) (Entry, error)
}

// Entry is a key at one revision.
type Entry struct {
	Key      string
	Value    []byte // empty: deleted, by hand
	Revision uint64
	Listed   bool  // not an entry: all existing keys have been sent
	Ended    error // not an entry: the error of Follow; nothing follows
}

var (
	// ErrChanged means that another replica has written the key, or that it has not expired yet.
	ErrChanged = errors.New("the key has another revision")
	// ErrAbsent means that the key was never written, or has expired.
	ErrAbsent = errors.New("no such key")
)
