package quarantine

import (
	"context"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// read passes the messages of a stream to f, in batches, up to the sequence last.
func read(ctx context.Context, stream natsjs.Stream, cfg natsjs.ConsumerConfig, last uint64, f func(context.Context, []*natsjs.RawStreamMsg) error) error {
	name := stream.CachedInfo().Config.Name
	// Unacknowledged and in memory: it is lost with the server, and the run fails.
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
		// Messages that expire in between never arrive.
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
				return fmt.Errorf("read stream %s: messages were lost in transit; run it again", name)
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
				return fmt.Errorf("read stream %s: it reports messages but sends none", name)
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
