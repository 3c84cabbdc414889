// Package consume works on the messages of a durable consumer in batches: several workers pull,
// a handler settles each message, and only then is it acknowledged. A message that no handler
// can use is stored in quarantine and terminated.
//
// It is for consumers of your own, too: nothing of nats-server is behind it.
package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/streams"
)

// Defaults of [Options].
const (
	DefaultWorkers     = 4
	DefaultBatch       = 500
	DefaultBatchBytes  = 8 << 20
	DefaultBatchWait   = time.Second
	DefaultStopTimeout = 10 * time.Second
)

// Handler works on one batch and gives its word on each message: [Message.Acked],
// [Message.Nak] or [Message.DeadLetter]. Nothing is acknowledged before it returns.
// A message without a word is delivered again later, a second after the first
// delivery and after twice as long with each further one, up to a minute.
//
// The handler may take as long as it needs, for instance wait for a database to
// come back: its messages stay its own meanwhile. ctx ends only when a stop has
// waited for StopTimeout. Several batches are handled at once, one a worker. A
// message may come twice (an acknowledgement can be lost): what a handler does
// must bear that.
type Handler func(ctx context.Context, batch []*Message)

// Options describe workers on one durable pull consumer. JetStream, Stream,
// Consumer and Handler are required.
type Options struct {
	JetStream natsjs.JetStream
	// Stream and Consumer name a consumer that exists; [streams.Manage] makes it.
	Stream, Consumer string
	Handler          Handler

	// Workers is how many batches are worked on at once in this process. Any
	// number of processes may share the consumer.
	Workers int
	// A batch ends with Batch messages, before more than BatchBytes of them
	// (payload, subject and headers; a single larger message comes alone), or
	// BatchWait after the pull began. BatchWait is held to a third of the
	// consumer's ack wait.
	Batch      int
	BatchBytes int
	BatchWait  time.Duration
	// MaxDeliveries is how often a message is handed to a handler at most;
	// then it goes to quarantine. The workers count, not the server: a server
	// that gives up tells it once, to whoever listens at that moment, and a
	// consumer without max_deliver goes on delivering until a worker has seen
	// to it. Zero: no limit.
	MaxDeliveries int
	// StopTimeout bounds the handlers' work after a stop.
	StopTimeout time.Duration

	Hooks Hooks
}

// Hooks are told of changes. Each may be nil, must not block and may be
// called from several goroutines.
type Hooks struct {
	// Trouble: nothing can be fetched, and why; nil: it goes on. Once per
	// change.
	Trouble func(err error)
	// Quarantined: a message was stored in quarantine. err is its cause.
	Quarantined func(m *Message, err error)
	// QuarantineProblem: a message belongs in quarantine, which does not take it; it is
	// delivered again later. Once per change; nil: it takes them again.
	Held func(err error)
}

// Workers pull batches from one durable consumer and hand them to a handler.
type Workers struct {
	o       Options
	counts  workersCounts
	trouble change
	held    change
}

// NewWorkers checks the options and does no I/O.
func NewWorkers(o Options) (*Workers, error) {
	switch {
	case o.JetStream == nil:
		return nil, errors.New("set up workers: JetStream is required")
	case o.Handler == nil:
		return nil, errors.New("set up workers: a handler is required")
	case !streams.ValidName(o.Stream) || !streams.ValidName(o.Consumer):
		return nil, fmt.Errorf("set up workers: %q and %q: the names of a stream and a consumer are required", o.Stream, o.Consumer)
	case o.Workers < 0 || o.Batch < 0 || o.BatchBytes < 0 || o.MaxDeliveries < 0:
		return nil, errors.New("set up workers: a number is negative")
	}
	setDefault(&o.Workers, DefaultWorkers)
	setDefault(&o.Batch, DefaultBatch)
	setDefault(&o.BatchBytes, DefaultBatchBytes)
	setDefault(&o.BatchWait, DefaultBatchWait)
	setDefault(&o.StopTimeout, DefaultStopTimeout)
	w := &Workers{o: o}
	w.counts.activeBatches = map[*worker]activeBatch{}
	w.trouble.hook, w.held.hook = o.Hooks.Trouble, o.Hooks.Held
	return w, nil
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Run works until ctx ends, then lets every worker finish its batch, acknowledges
// it and returns. What keeps messages from coming (no connection, no such
// consumer) is told through Hooks and tried again for ever.
func (w *Workers) Run(ctx context.Context) {
	// Handlers outlive ctx by StopTimeout.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(w.o.StopTimeout, cancel)
		context.AfterFunc(work, func() { timer.Stop() })
	})
	defer stop()

	var wait sync.WaitGroup
	wait.Go(func() { w.observe(ctx) })
	wait.Go(func() { w.watchAdvisories(ctx) })
	for range w.o.Workers {
		wait.Go(func() { (&worker{Workers: w, work: work}).run(ctx) })
	}
	wait.Wait()
	// The acknowledgements are in the connection's buffer: see them out. The
	// context is bounded, and where there is no connection they come again.
	flush, cancelFlush := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancelFlush()
	_ = w.o.JetStream.Conn().FlushWithContext(flush)
}

// change tells a hook of errors once per change.
type change struct {
	hook func(error)

	mu    sync.Mutex
	last  error
	since time.Time
	seen  time.Time // when it was set last, changed or not
}

func (c *change) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = time.Now()
	switch same := (err == nil) == (c.last == nil); {
	case same && (err == nil || err.Error() == c.last.Error()):
		return
	case !same:
		c.since = time.Now()
	}
	c.last = err
	if c.hook != nil {
		c.hook(err)
	}
}

// expire forgets an error that has not been met again for so long.
func (c *change) expire(after time.Duration) {
	c.mu.Lock()
	stale := c.last != nil && time.Since(c.seen) > after
	c.mu.Unlock()
	if stale {
		c.set(nil)
	}
}

func (c *change) current() (since time.Time, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.last
}

// pause waits, and reports false where ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
