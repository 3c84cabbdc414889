package lease

import (
	"sync/atomic"
	"time"
)

// fence detects that the process was suspended for longer than the lifetime of a lease. It is up
// from then until the loop knows the state of the leases. Times are relative to base.
type fence struct {
	base      time.Time
	ttl       atomic.Int64 // 0: not known
	passed    atomic.Int64 // the loop's last pass with all leases known
	confirmed time.Duration
}

// up implements [Lease.Fenced].
func (f *fence) up() bool {
	ttl := f.ttl.Load()
	return ttl > 0 && int64(time.Since(f.base))-f.passed.Load() > ttl
}

// expect sets the lifetime of a lease.
func (f *fence) expect(ttl time.Duration) {
	if f.ttl.Swap(int64(ttl)) == 0 {
		f.passed.Store(int64(time.Since(f.base)))
	}
}

// confirm records that every lease was renewed or found lost.
func (f *fence) confirm() { f.confirmed = time.Since(f.base) }

// pass records the end of a pass. After a suspension, only an answer from the bucket shows the
// state of the leases. The lanes of lost leases must be closed before the others continue.
func (f *fence) pass(losing bool) {
	if !f.up() || int64(f.confirmed) > f.passed.Load() && !losing {
		f.passed.Store(int64(time.Since(f.base)))
	}
}
