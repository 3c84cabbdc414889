package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

const (
	// requestTimeout bounds each request to JetStream.
	requestTimeout = 5 * time.Second

	fetchPauseMin = 100 * time.Millisecond
	fetchPauseMax = 5 * time.Second
	// retryMin and retryMax bound the delay of a message that was not settled. It doubles with each
	// delivery.
	retryMin = time.Second
	retryMax = time.Minute
)

// ErrNoConsumer means that the stream or its consumer does not exist.
var ErrNoConsumer = errors.New("does not exist")

type worker struct {
	*Workers
	handlerCtx context.Context // of all handlers of one Run: outlasts Run's own by the stop timeout

	consumer       natsjs.Consumer // nil: to be looked up
	ackWait        time.Duration
	maxDeliveries  uint64 // to a handler; 0: no limit
	oversize       bool   // the next message alone exceeds BatchBytes
	quarantineDown bool   // quarantine accepts no message of this batch
}

func (w *worker) run(ctx context.Context) {
	wait := fetchPauseMin
	for ctx.Err() == nil {
		batch, err := w.fetch(ctx)
		if len(batch) > 0 {
			w.handle(batch)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.fetchProblem.set(err)
			sleep.For(ctx, wait)
			wait = min(2*wait, fetchPauseMax)
		default:
			w.fetchProblem.set(nil)
			wait = fetchPauseMin
		}
	}
}

// fetch pulls one batch. It may return both messages and an error.
func (w *worker) fetch(ctx context.Context) ([]*Message, error) {
	if !w.o.JetStream.Conn().IsConnected() {
		return nil, conn.ErrDisconnected
	}
	if w.consumer == nil {
		if err := w.lookUp(ctx); err != nil {
			return nil, err
		}
	}
	// The pull is not bound to ctx: an abandoned pull leaves messages in flight without a receiver,
	// which are redelivered only after the ack wait.
	began, wait, size := time.Now(), min(w.o.BatchWait, w.ackWait/3), 1
	options := []natsjs.FetchOpt{natsjs.FetchMaxWait(wait)}
	if !w.oversize {
		size, options = w.o.Batch, append(options, natsjs.FetchMaxBytes(w.o.BatchBytes))
	}
	pull, err := w.consumer.Fetch(size, options...)
	if err != nil {
		w.consumer = nil
		return nil, fmt.Errorf("pull from consumer %s/%s: %w", w.o.Stream, w.o.Consumer, err)
	}
	var batch []*Message
	for msg := range pull.Messages() {
		m, err := receive(msg)
		if err != nil {
			continue // not from this consumer, so it cannot be settled
		}
		if batch == nil {
			batch = make([]*Message, 0, w.o.Batch)
		}
		batch = append(batch, m)
	}
	// The server ends a pull immediately if the next message alone exceeds the bytes; nats.go
	// 1.55.0 does not report that. Over a slow link the answer is so late that only the consumer's
	// pending count indicates it.
	w.oversize = !w.oversize && len(batch) == 0 && (time.Since(began) < wait/2 || w.counts.pending.Load() > 0)
	if err := pull.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
		w.consumer = nil // it may have been removed or replaced
		if errors.Is(err, nats.ErrNoResponders) {
			return batch, fmt.Errorf("consumer %s/%s does not answer: it was removed, or has no leader at present: %w", w.o.Stream, w.o.Consumer, err)
		}
		return batch, fmt.Errorf("pull from consumer %s/%s: %w", w.o.Stream, w.o.Consumer, w.explain(err, "CONSUMER.MSG.NEXT."))
	}
	return batch, nil
}

// explain is [conn.Explain] for a request about the consumer.
func (w *worker) explain(err error, request string) error {
	return conn.Explain(err, conn.APISubject(w.o.JetStream, request+w.o.Stream+"."+w.o.Consumer))
}

// lookUp finds the consumer and its ack wait.
func (w *worker) lookUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := w.o.JetStream.Consumer(ctx, w.o.Stream, w.o.Consumer)
	switch {
	case errors.Is(err, natsjs.ErrConsumerNotFound), errors.Is(err, natsjs.ErrStreamNotFound):
		return fmt.Errorf("consumer %s/%s %w: %w", w.o.Stream, w.o.Consumer, ErrNoConsumer, err)
	case err != nil:
		return fmt.Errorf("look up consumer %s/%s: %w", w.o.Stream, w.o.Consumer, w.explain(err, "CONSUMER.INFO."))
	}
	cfg := consumer.CachedInfo().Config
	w.consumer, w.ackWait = consumer, cfg.AckWait
	if w.ackWait <= 0 {
		w.ackWait = streams.DefaultAckWait
	}
	w.maxDeliveries = uint64(w.o.MaxDeliveries)
	if cfg.MaxDeliver > 0 {
		// The server gives up after the last delivery, whatever its outcome. So use that delivery
		// for quarantine.
		if last := uint64(max(cfg.MaxDeliver-1, 1)); w.maxDeliveries == 0 || last < w.maxDeliveries {
			w.maxDeliveries = last
		}
	}
	return nil
}

// handle passes the messages that have deliveries left to the handler, and settles all messages.
func (w *worker) handle(batch []*Message) {
	w.counts.begin(w, batch)
	defer w.counts.end(w)
	defer w.lease(batch)()
	remaining := batch[:0:0]
	for _, m := range batch {
		if w.maxDeliveries > 0 && m.Delivered > w.maxDeliveries {
			m.DeadLetter(fmt.Errorf("given up after %d deliveries: no attempt has ended with a result", m.Delivered-1))
			continue
		}
		remaining = append(remaining, m)
	}
	if len(remaining) > 0 {
		w.o.Handler(w.handlerCtx, remaining)
	}
	w.quarantineDown = false
	for _, m := range batch {
		w.settle(m)
	}
}

// lease reports progress on the batch to the server three times per ack wait. The returned function
// stops that and waits until it has ended.
func (w *worker) lease(batch []*Message) (release func()) {
	end := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(w.ackWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				for _, m := range batch {
					// Without a connection the lease expires and the message is redelivered.
					_ = m.msg.InProgress()
				}
			}
		}
	})
	return func() {
		close(end)
		wait.Wait()
	}
}

// settle acks, naks or dead-letters a message. Acknowledgements are not confirmed: if one is lost
// the message is redelivered, which a handler must tolerate anyway.
func (w *worker) settle(m *Message) {
	var err error
	switch m.outcome {
	case acked:
		if err = m.msg.Ack(); err == nil {
			w.counts.acked.Add(1)
		}
	case deadLettered:
		err = w.deadLetter(m)
	case nacked:
		w.counts.retried.Add(1)
		err = m.msg.NakWithDelay(max(m.delay, 0))
	default:
		w.counts.retried.Add(1)
		delay := retryDelay(m.Delivered)
		if w.handlerCtx.Err() != nil {
			delay = 0 // stopped before it was handled: another worker may process it
		}
		err = m.msg.NakWithDelay(delay)
	}
	if err != nil {
		w.counts.unanswered.Add(1)
	}
}

// deadLetter stores the message in quarantine and only then terminates it. An error means that the
// server was not told: the message is redelivered, and its next copy is then a duplicate.
func (w *worker) deadLetter(m *Message) error {
	stored := false
	if !w.quarantineDown { // otherwise each message of the batch would wait for its own refusal
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.handlerCtx), requestTimeout)
		err := w.quarantine(ctx, m, m.cause)
		cancel()
		stored, w.quarantineDown = err == nil, quarantineUnavailable(err)
		w.quarantineProblem.set(err)
	}
	if !stored {
		w.counts.retried.Add(1)
		return m.msg.NakWithDelay(retryDelay(m.Delivered))
	}
	return m.msg.TermWithReason(oneLine(m.cause.Error()))
}

func retryDelay(delivered uint64) time.Duration {
	d := retryMin
	for i := uint64(1); i < delivered && d < retryMax; i++ {
		d *= 2
	}
	return min(d, retryMax)
}
