package consume

import (
	"sync"
	"sync/atomic"
	"time"
)

// Counts contains what the workers have done since they were created, and their present state.
type Counts struct {
	Batches     uint64
	Messages    uint64 // delivered to this process
	Redelivered uint64 // of them, redelivered
	Acked       uint64 // acknowledged
	Retried     uint64 // nacked, to be delivered again
	Quarantined uint64
	// Unanswered counts messages that could not be acked or naked without a connection: they are
	// delivered again after the ack wait.
	Unanswered uint64
	// InProgress counts the messages that handlers work on.
	InProgress int
	// OldestAge is the age of the oldest message in progress, since it was stored; 0: there is
	// none.
	OldestAge time.Duration
	// Pending counts messages that are not delivered yet, AckPending those that are delivered and
	// not acknowledged, in all processes together, as of ObservedAt; zero until
	// the first observation.
	Pending, AckPending uint64
	ObservedAt          time.Time
	// FetchProblem is why no messages arrive, QuarantineProblem why no message can be stored in
	// quarantine; nil: no problem.
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

// activeBatch is a batch that a handler works on.
type activeBatch struct {
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
