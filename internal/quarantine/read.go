package quarantine

import (
	"context"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// read calls f with the messages of a stream in batches, up to the sequence last.
func read(ctx context.Context, stream natsjs.Stream, cfg natsjs.ConsumerConfig, last uint64, f func(context.Context, []*natsjs.RawStreamMsg) error) error {
	name := stream.CachedInfo().Config.Name
	// The consumer needs no acknowledgements and is in memory. If its server fails, it is lost and the
	// command fails.
	cfg.AckPolicy, cfg.MemoryStorage, cfg.InactiveThreshold = natsjs.AckNonePolicy, true, 5*time.Minute
	consumer, err := stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		// If this fails, the consumer expires by itself.
		_ = stream.DeleteConsumer(done, consumer.CachedInfo().Name)
	}()
	pending, next := consumer.CachedInfo().NumPending, uint64(1)
	for silent, end := false, false; pending > 0 && !end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// Messages that expire during the read never arrive, so the wait is bounded.
		batch, err := consumer.Fetch(int(min(pending, chunk)), natsjs.FetchMaxWait(5*time.Second))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		var messages []*natsjs.RawStreamMsg
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read stream %s: %w", name, err)
			}
			if meta.Sequence.Consumer != next {
				return fmt.Errorf("read stream %s: messages were lost in transit; run the command again", name)
			}
			next++
			pending = meta.NumPending
			if end = end || meta.Sequence.Stream > last; !end {
				messages = append(messages, &natsjs.RawStreamMsg{
					Subject: m.Subject(), Sequence: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp,
				})
			}
		}
		if err := batch.Error(); err != nil && len(messages) == 0 {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		if len(messages) > 0 {
			silent = false
			if err := f(ctx, messages); err != nil {
				return err
			}
		} else if !end {
			if silent {
				return fmt.Errorf("read stream %s: the server reports pending messages but delivers none", name)
			}
			silent = true
			info, err := consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("read stream %s: %w", name, err)
			}
			pending = info.NumPending
		}
	}
	return nil
}
