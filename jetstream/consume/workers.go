// Package consume processes the messages of a durable consumer in batches. Several workers pull. A
// handler settles each message, and only then is the message acknowledged. A message that cannot be
// processed is stored in quarantine, the dead-letter stream, and terminated.
//
// You can use it for your own consumers: it does not import nats-server.
package consume

import (
	"cmp"
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

// Handler processes one batch and settles each message: [Message.Ack], [Message.Nak] or
// [Message.DeadLetter]. Nothing is acknowledged before it returns. A message that it does not
// settle is redelivered: one second after the first delivery, then after twice as long each time,
// up to one minute.
//
// A handler may take as long as it needs, for example until a database is reachable again. Its
// messages remain leased during that time. ctx ends only when a stop has waited for StopTimeout.
// Batches are handled concurrently, one per worker. Delivery is at-least-once, because an
// acknowledgement can be lost, so a handler must be idempotent.
type Handler func(ctx context.Context, batch []*Message)

// Options configure workers on one durable pull consumer. JetStream, Stream, Consumer and Handler
// are required.
type Options struct {
	JetStream natsjs.JetStream
	// Stream and Consumer name an existing consumer; [streams.Manage] creates it.
	Stream, Consumer string
	Handler          Handler

	// Workers is the number of batches handled concurrently in this process. Any number of
	// processes may share the consumer.
	Workers int
	// Batch, BatchBytes and BatchWait end a batch: at Batch messages, before BatchBytes is exceeded
	// (payload, subject and headers; a single larger message comes alone), or BatchWait after the
	// pull began. BatchWait is limited to a third of the consumer's ack wait.
	Batch      int
	BatchBytes int
	BatchWait  time.Duration
	// MaxDeliveries bounds how often a message is passed to a handler before it goes to quarantine.
	// The workers count, not the server. A server that reaches max_deliver reports it once, to
	// current subscribers only, whereas a consumer without max_deliver continues to deliver until a
	// worker has settled the message. 0: no limit.
	MaxDeliveries int
	// StopTimeout bounds the handlers' work after a stop.
	StopTimeout time.Duration

	Hooks Hooks
}

// Hooks are called on changes. Each may be nil, must not block and may be called from several
// goroutines.
type Hooks struct {
	// FetchProblem is called once per change with the reason why nothing can be fetched; nil means
	// that fetching works again.
	FetchProblem func(err error)
	// Quarantined is called after a message was stored in quarantine. err is the cause.
	Quarantined func(m *Message, err error)
	// QuarantineProblem is called once per change with the reason why quarantine does not accept a
	// message, which is redelivered later; nil means that it accepts messages again.
	QuarantineProblem func(err error)
}

// Workers pull batches from one durable consumer and pass them to a handler.
type Workers struct {
	o                 Options
	counts            workersCounts
	fetchProblem      problemState
	quarantineProblem problemState
}

// NewWorkers validates the options and does no I/O.
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
	o.Workers = cmp.Or(o.Workers, DefaultWorkers)
	o.Batch = cmp.Or(o.Batch, DefaultBatch)
	o.BatchBytes = cmp.Or(o.BatchBytes, DefaultBatchBytes)
	o.BatchWait = cmp.Or(max(o.BatchWait, 0), DefaultBatchWait)
	o.StopTimeout = cmp.Or(max(o.StopTimeout, 0), DefaultStopTimeout)
	w := &Workers{o: o}
	w.counts.activeBatches = map[*worker]activeBatch{}
	w.fetchProblem.hook, w.quarantineProblem.hook = o.Hooks.FetchProblem, o.Hooks.QuarantineProblem
	return w, nil
}

// Run works until ctx ends, then waits until every worker has finished and acknowledged its batch.
// Problems such as a missing connection or consumer are reported through Hooks and retried
// indefinitely.
func (w *Workers) Run(ctx context.Context) {
	// Handlers outlive ctx by StopTimeout.
	handlerCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(w.o.StopTimeout, cancel)
		context.AfterFunc(handlerCtx, func() { timer.Stop() })
	})
	defer stop()

	var wait sync.WaitGroup
	wait.Go(func() { w.pollConsumer(ctx) })
	wait.Go(func() { w.watchAdvisories(ctx) })
	for range w.o.Workers {
		wait.Go(func() { (&worker{Workers: w, handlerCtx: handlerCtx}).run(ctx) })
	}
	wait.Wait()
	// Flush the acknowledgements from the connection's buffer, for a bounded time. Without a
	// connection the messages are redelivered.
	flush, cancelFlush := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancelFlush()
	_ = w.o.JetStream.Conn().FlushWithContext(flush)
}

// problemState calls a hook once per change of an error.
type problemState struct {
	hook func(error)

	mu    sync.Mutex
	last  error
	since time.Time
	seen  time.Time // time of the last set, changed or not
}

func (c *problemState) set(err error) {
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

// expire clears an error that has not recurred for that long.
func (c *problemState) expire(after time.Duration) {
	c.mu.Lock()
	stale := c.last != nil && time.Since(c.seen) > after
	c.mu.Unlock()
	if stale {
		c.set(nil)
	}
}

func (c *problemState) current() (since time.Time, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.last
}
