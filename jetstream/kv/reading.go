package kv

import (
	"context"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// reading is the state of one pass over the bucket, and of watching it afterwards.
type reading struct {
	bucket      *Bucket
	created     time.Time // of the stream; another time means another bucket
	ttl         time.Duration
	lastAtStart uint64 // the stream's last sequence when this reading began
	updates     <-chan natsjs.KeyValueEntry
	complete    bool
	reported    bool      // Done was reported
	deadline    time.Time // when the next entry is due, until complete
	last        uint64    // sequence up to which everything has arrived
	changedAt   time.Time
	missing     uint64 // last sequence at the previous check, if it had not arrived; 0: none missing
}

// deliver passes an entry and all others available to the reader. It returns false if the watcher
// ended.
func (r *reading) deliver(entry natsjs.KeyValueEntry) bool {
	b, ended, newEntries := r.bucket, false, false
	for {
		switch {
		case entry == nil: // nats.go's marker: all existing entries have arrived
			// Everything up to lastAtStart has arrived, even if the last message was removed: nats
			// kv compact removes deletion markers.
			r.complete, r.last = true, max(r.last, r.lastAtStart)
		case entry.Operation() == natsjs.KeyValuePut:
			b.o.Reader.Put(entry.Key(), entry.Value(), entry.Revision())
		default:
			b.o.Reader.Delete(entry.Key(), entry.Revision())
		}
		if entry != nil {
			r.last, r.changedAt, newEntries = max(r.last, entry.Revision()), entry.Created(), true
		}
		select {
		case next, ok := <-r.updates:
			if entry = next; ok {
				continue
			}
			ended = true
		default:
		}
		break
	}
	r.deadline = time.Now().Add(requestTimeout)
	if r.complete {
		b.o.Reader.Done()
		b.setLive(r, newEntries)
	}
	return !ended
}

// recheck detects what nats.go does not report: the bucket was replaced, its TTL was changed, or
// the server has lost the consumer.
func (b *Bucket) recheck(ctx context.Context, cancel context.CancelCauseFunc, r *reading) error {
	if !b.o.Conn.IsConnected() {
		return nil
	}
	info, err := b.info(ctx, cancel)
	switch {
	case err != nil:
		return err
	case !info.Created.Equal(r.created), info.Config.MaxAge != r.ttl:
		return ErrReadAgain
	case !r.complete:
		if time.Now().After(r.deadline) {
			return fmt.Errorf("its entries do not arrive: none for %s", requestTimeout)
		}
		return nil
	}
	// The last sequence may be that of a purge, which leaves no message. So it counts as missing
	// only at the second check.
	if last := info.State.LastSeq; last <= r.last || info.State.Msgs == 0 {
		r.missing = 0
	} else if r.missing == 0 {
		r.missing = last
	} else if r.last < r.missing {
		return ErrReadAgain
	}
	return nil
}
