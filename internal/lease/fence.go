package lease

import (
	"sync/atomic"
	"time"
)

// fence finds out that the process stood still for longer than a lease lives. It is up
// from then on until the loop knows what became of the leases. Times are since base.
type fence struct {
	base      time.Time
	ttl       atomic.Int64 // 0: not known
	passed    atomic.Int64 // the loop's latest pass with all leases known
	confirmed time.Duration
}

// up: see [Lease.Fenced].
func (f *fence) up() bool {
	ttl := f.ttl.Load()
	return ttl > 0 && int64(time.Since(f.base))-f.passed.Load() > ttl
}

// expect sets how long a lease lives.
func (f *fence) expect(ttl time.Duration) {
	if f.ttl.Swap(int64(ttl)) == 0 {
		f.passed.Store(int64(time.Since(f.base)))
	}
}

// confirm notes that every lease was renewed or found lost.
func (f *fence) confirm() { f.confirmed = time.Since(f.base) }

// pass notes the end of a pass. After a standstill only an answer of the bucket says what
// became of the leases, and what was lost must be closed before the rest goes on.
func (f *fence) pass(losing bool) {
	if !f.up() || int64(f.confirmed) > f.passed.Load() && !losing {
		f.passed.Store(int64(time.Since(f.base)))
	}
}
