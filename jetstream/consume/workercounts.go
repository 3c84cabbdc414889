package consume

import (
	"sync"
	"sync/atomic"
	"time"
)

// Counts contains the counters of the workers since they were created, and their current state.
type Counts struct {
	Batches     uint64
	Messages    uint64 // delivered to this process
	Redelivered uint64 // of these, redelivered
	Acked       uint64 // acknowledged
	Retried     uint64 // nak'ed, to be redelivered
	Quarantined uint64
	// Unanswered counts messages that could not be acked or nak'ed for lack of a connection. They
	// are redelivered after the ack wait.
	Unanswered uint64
	// InProgress is the number of messages that handlers are processing.
	InProgress int
	// OldestAge is the age of the oldest message in progress, since it was stored; 0: none in
	// progress.
	OldestAge time.Duration
	// Pending is the number of messages not yet delivered, AckPending that of messages delivered
	// but not acknowledged, over all processes, as of ObservedAt. They are zero until the first
	// observation.
	Pending, AckPending uint64
	ObservedAt          time.Time
	// FetchProblem is the reason why no messages arrive. QuarantineProblem is the reason why no
	// message can be quarantined. nil: no problem.
	FetchProblem, QuarantineProblem           error
	FetchProblemSince, QuarantineProblemSince time.Time
}

type workersCounts struct {
	batches, messages, redelivered, acked, retried, quarantined, unanswered atomic.Uint64
	pending, ackPending                                                     atomic.Uint64
	observed                                                                atomic.Int64 // ns since the epoch

	mu            sync.Mutex
	activeBatches map[*worker]activeBatch
}

// activeBatch is a batch that a handler is processing.
type activeBatch struct {
	messages int
	oldest   time.Time
}

func (c *workersCounts) begin(w *worker, batch []*Message) {
	oldest := batch[0].Time
	for _, m := range batch {
		if m.Time.Before(oldest) {
			oldest = m.Time
		}
		if m.Delivered > 1 {
			c.redelivered.Add(1)
		}
	}
	c.batches.Add(1)
	c.messages.Add(uint64(len(batch)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.activeBatches[w] = activeBatch{len(batch), oldest}
}

func (c *workersCounts) end(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.activeBatches, w)
}

// Counts returns the counts. It may be called at any time.
func (w *Workers) Counts() Counts {
	c := &w.counts
	counts := Counts{
		Batches: c.batches.Load(), Messages: c.messages.Load(), Redelivered: c.redelivered.Load(),
		Acked: c.acked.Load(), Retried: c.retried.Load(), Quarantined: c.quarantined.Load(), Unanswered: c.unanswered.Load(),
		Pending: c.pending.Load(), AckPending: c.ackPending.Load(),
	}
	counts.FetchProblemSince, counts.FetchProblem = w.fetchProblem.current()
	counts.QuarantineProblemSince, counts.QuarantineProblem = w.quarantineProblem.current()
	if ns := c.observed.Load(); ns != 0 {
		counts.ObservedAt = time.Unix(0, ns)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.activeBatches {
		counts.InProgress += h.messages
		counts.OldestAge = max(counts.OldestAge, time.Since(h.oldest))
	}
	return counts
}
