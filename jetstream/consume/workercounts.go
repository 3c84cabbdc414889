package consume

import (
	"sync"
	"sync/atomic"
	"time"
)

// Counts is what workers have done since they were made, and where they
// stand.
type Counts struct {
	Batches     uint64
	Messages    uint64 // delivered to this process
	Redelivered uint64 // of them, not for the first time
	Done        uint64 // acknowledged
	Retried     uint64 // given back, to be delivered again
	Quarantined uint64
	// Unanswered could not be acknowledged or given back, for want of a
	// connection: they are delivered again after the ack wait.
	Unanswered uint64
	// InHand are being worked on.
	InHand int
	// OldestAge is how long ago the stream took the oldest message in hand;
	// 0: there is none.
	OldestAge time.Duration
	// Pending are not delivered to anybody yet, AckPending are delivered and
	// not acknowledged, in all processes together: as of ObservedAt, zero as
	// long as there is no word.
	Pending, AckPending uint64
	ObservedAt          time.Time
	// Trouble is why nothing comes, Held why quarantine does not take what
	// belongs there; empty: all is well.
	Trouble, Held           string
	TroubleSince, HeldSince time.Time
}

type workersCounts struct {
	batches, messages, redelivered, done, retried, quarantined, unanswered atomic.Uint64
	pending, ackPending                                                    atomic.Uint64
	observed                                                               atomic.Int64 // ns since the epoch

	mu     sync.Mutex
	inHand map[*worker]handful
}

// handful is a batch that is worked on.
type handful struct {
	messages int
	oldest   time.Time
}

func (c *workersCounts) begin(w *worker, batch []*Message) {
	oldest := batch[0].Time
	redelivered := uint64(0)
	for _, m := range batch {
		if m.Time.Before(oldest) {
			oldest = m.Time
		}
		if m.Delivered > 1 {
			redelivered++
		}
	}
	c.batches.Add(1)
	c.messages.Add(uint64(len(batch)))
	c.redelivered.Add(redelivered)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inHand[w] = handful{len(batch), oldest}
}

func (c *workersCounts) end(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inHand, w)
}

// Counts may be called at any time.
func (w *Workers) Counts() Counts {
	c := &w.counts
	counts := Counts{
		Batches: c.batches.Load(), Messages: c.messages.Load(), Redelivered: c.redelivered.Load(),
		Done: c.done.Load(), Retried: c.retried.Load(), Quarantined: c.quarantined.Load(), Unanswered: c.unanswered.Load(),
		Pending: c.pending.Load(), AckPending: c.ackPending.Load(),
	}
	counts.Trouble, counts.TroubleSince = w.trouble.current()
	counts.Held, counts.HeldSince = w.held.current()
	if ns := c.observed.Load(); ns != 0 {
		counts.ObservedAt = time.Unix(0, ns)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.inHand {
		counts.InHand += h.messages
		counts.OldestAge = max(counts.OldestAge, time.Since(h.oldest))
	}
	return counts
}
