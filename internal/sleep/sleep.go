// Package sleep waits for a time or a call, or until a context ends.
package sleep

import (
	"context"
	"time"
)

// For waits for d and returns true, or false if ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// Await calls f and returns true, or false if ctx ended first. f then continues in the background: it is a call
// that accepts no context.
func Await(ctx context.Context, f func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}
