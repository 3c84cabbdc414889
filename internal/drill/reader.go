package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/sleep"
)

const (
	// requestTimeout bounds one request to JetStream.
	requestTimeout = 5 * time.Second
	// idleTimeout is the time without a delivery after which the reader checks whether the stream
	// has more messages.
	idleTimeout = 3 * time.Second
)

// reader reads one stream from a given sequence, in order, and continues after outages of NATS.
type reader struct {
	js     natsjs.JetStream
	stream string
	handle func(stream string, m natsjs.Msg, meta *natsjs.MsgMetadata)

	next atomic.Uint64 // the next sequence to read

	mu  sync.Mutex
	err error // error of the latest attempt; nil: reading
}

// newReader returns a reader that starts after the stream's current last message.
func newReader(ctx context.Context, js natsjs.JetStream, stream string, handle func(string, natsjs.Msg, *natsjs.MsgMetadata)) (*reader, error) {
	r := &reader{js: js, stream: stream, handle: handle}
	last, err := r.last(ctx)
	if err != nil {
		return nil, err
	}
	r.next.Store(last + 1)
	return r, nil
}

// last returns the sequence of the stream's last message.
func (r *reader) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := r.js.Stream(ctx, r.stream)
	if err != nil {
		return 0, fmt.Errorf("get stream %s: %w", r.stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		r.setProblem(err)
		sleep.For(ctx, 200*time.Millisecond) // between attempts
	}
}

func (r *reader) setProblem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// problem returns the reason why the stream cannot be read; nil: it is being read.
func (r *reader) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// errStale means that a consumer has stopped delivering although the stream has more messages.
var errStale = errors.New("the consumer has stopped delivering although the stream has more messages")

// follow reads with one consumer until it fails or ctx ends.
func (r *reader) follow(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := r.js.OrderedConsumer(bounded, r.stream, natsjs.OrderedConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: r.next.Load(), MaxResetAttempts: 1,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", r.stream, err)
	}
	messages, err := consumer.Messages(natsjs.PullMaxMessages(1000))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", r.stream, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	r.setProblem(nil)
	for {
		m, err := messages.Next(natsjs.NextMaxWait(idleTimeout))
		if errors.Is(err, nats.ErrTimeout) {
			last, err := r.last(ctx)
			if err != nil {
				return err
			}
			if last >= r.next.Load() {
				return errStale
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read stream %s: %w", r.stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", r.stream, err)
		}
		if meta.Sequence.Stream < r.next.Load() {
			continue
		}
		r.handle(r.stream, m, meta)
		r.next.Store(meta.Sequence.Stream + 1)
	}
}

// probe checks that the NATS user has permission to read the stream.
func (r *reader) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := r.js.OrderedConsumer(ctx, r.stream, natsjs.OrderedConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: r.next.Load(),
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w: the NATS user needs permission to create consumers", r.stream, err)
	}
	return nil
}

// caughtUp returns an error unless the reader has read all current messages of the stream.
func (r *reader) caughtUp(ctx context.Context) error {
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	if next := r.next.Load(); next <= last {
		return fmt.Errorf("read stream %s: at %d of %d", r.stream, next-1, last)
	} else if next > last+1 {
		return fmt.Errorf("read stream %s: its last message is %d, but %d has been read: the stream lost messages", r.stream, last, next-1)
	}
	return nil
}
