// Package consume processes the messages of a durable consumer in batches. Several workers pull; a
// handler settles each message, and only then is it acknowledged. A message that no handler can
// process is stored in quarantine, the dead-letter stream, and terminated.
//
// You can use it for your own consumers: it does not import nats-server.
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

// Handler processes one batch and settles each message: [Message.Ack], [Message.Nak] or
// [Message.DeadLetter]. Nothing is acknowledged before it returns. A message that it does not
// settle is delivered again: one second after the first delivery, then after twice as long each
// time, up to one minute.
//
// The handler may take as long as it needs, for example until a database is reachable again: its
// messages remain leased during that time. ctx ends only when a stop has waited for StopTimeout.
// Batches are handled concurrently, one per worker. Delivery is at-least-once (an acknowledgement
// can be lost), so a handler must be idempotent.
type Handler func(ctx context.Context, batch []*Message)

// Options describes workers on one durable pull consumer. JetStream, Stream, Consumer and Handler
// are required.
type Options struct {
	JetStream natsjs.JetStream
	// Stream and Consumer name an existing consumer; [streams.Manage] creates it.
	Stream, Consumer string
	Handler          Handler

	// Workers is the number of batches handled concurrently in this process. Any number of
	// processes may share the consumer.
	Workers int
	// A batch ends with Batch messages, before it exceeds BatchBytes (payload, subject and headers;
	// a single larger message comes alone), or BatchWait after the pull began. BatchWait is limited
	// to a third of the consumer's ack wait.
	Batch      int
	BatchBytes int
	BatchWait  time.Duration
	// MaxDeliveries bounds how often a message is passed to a handler; then it goes to quarantine.
	// The workers count, not the server: a server that reaches max_deliver reports it once, to the
	// subscribers of that moment, whereas a consumer without max_deliver continues to deliver until
	// a worker has settled the message. Zero: no limit.
	MaxDeliveries int
	// StopTimeout bounds the handlers' work after a stop.
	StopTimeout time.Duration

	Hooks Hooks
}

// Hooks are called at changes. Each may be nil, must not block and may be called from several
// goroutines.
type Hooks struct {
	// FetchProblem is called once per change with the reason why nothing can be fetched; nil: fetching
	// works again.
	FetchProblem func(err error)
	// Quarantined is called when a message was stored in quarantine. err is its cause.
	Quarantined func(m *Message, err error)
	// QuarantineProblem is called once per change with the reason why quarantine does not accept a
	// message, which is then delivered again later; nil: it accepts messages again.
	QuarantineProblem func(err error)
}

// Workers pull batches from one durable consumer and pass them to a handler.
type Workers struct {
	o                 Options
	counts            workersCounts
	fetchProblem      change
	quarantineProblem change
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
	w.fetchProblem.hook, w.quarantineProblem.hook = o.Hooks.FetchProblem, o.Hooks.QuarantineProblem
	return w, nil
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Run works until ctx ends, then waits until every worker has finished and acknowledged its batch.
// Problems such as a missing connection or consumer are reported through Hooks and retried
// indefinitely.
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
	// Flush the acknowledgements from the connection's buffer. The context is bounded; without a
	// connection the messages are delivered again.
	flush, cancelFlush := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancelFlush()
	_ = w.o.JetStream.Conn().FlushWithContext(flush)
}

// change calls a hook once per change of an error.
type change struct {
	hook func(error)

	mu    sync.Mutex
	last  error
	since time.Time
	seen  time.Time // of the last set, changed or not
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

// expire removes an error that has not occurred again for that long.
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
