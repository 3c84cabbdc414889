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
	// askTimeout bounds one request to JetStream.
	askTimeout = 5 * time.Second
	// silence is how long a consumer may deliver nothing before the stream is asked
	// whether there is anything to deliver.
	silence = 3 * time.Second
)

// reader reads one stream from a sequence on, in order, through every outage of NATS.
type reader struct {
	js     natsjs.JetStream
	stream string
	take   func(stream string, m natsjs.Msg, meta *natsjs.MsgMetadata)

	next atomic.Uint64 // the sequence to be read next

	mu  sync.Mutex
	err error // of the latest attempt; nil: it reads
}

// newReader begins after the last message of this moment.
func newReader(ctx context.Context, js natsjs.JetStream, stream string, take func(string, natsjs.Msg, *natsjs.MsgMetadata)) (*reader, error) {
	r := &reader{js: js, stream: stream, take: take}
	last, err := r.last(ctx)
	if err != nil {
		return nil, err
	}
	r.next.Store(last + 1)
	return r, nil
}

// last is the sequence of the stream's last message.
func (r *reader) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := r.js.Stream(ctx, r.stream)
	if err != nil {
		return 0, fmt.Errorf("ask for stream %s: %w", r.stream, err)
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
		r.note(err)
		sleep.For(ctx, 200*time.Millisecond) // between attempts
	}
}

func (r *reader) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// problem is why the stream cannot be read now; nil: it is being read.
func (r *reader) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// errStale means that a consumer delivers nothing though the stream has more.
var errStale = errors.New("the consumer delivers nothing though the stream has more")

// follow reads over one consumer.
func (r *reader) follow(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
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
	r.note(nil)
	for {
		m, err := messages.Next(natsjs.NextMaxWait(silence))
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
		r.take(r.stream, m, meta)
		r.next.Store(meta.Sequence.Stream + 1)
	}
}

// jetStreamAPI chooses the API of a connection.
type jetStreamAPI func(*nats.Conn) (natsjs.JetStream, error)

// probe finds out whether the stream can be read at all.
func (r *reader) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := r.js.OrderedConsumer(ctx, r.stream, natsjs.OrderedConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: r.next.Load(),
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w: the NATS user must be allowed to create consumers", r.stream, err)
	}
	return nil
}

// caughtUp reports whether everything that the stream has now was read.
func (r *reader) caughtUp(ctx context.Context) error {
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	if next := r.next.Load(); next <= last {
		return fmt.Errorf("read stream %s: at %d of %d", r.stream, next-1, last)
	} else if next > last+1 {
		return fmt.Errorf("read stream %s: its last message is %d, and %d has been read: the stream lost messages", r.stream, last, next-1)
	}
	return nil
}
