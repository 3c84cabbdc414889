package quarantine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream"
)

// stored is a message of the quarantine stream, read.
type stored struct {
	bridge.Rejected
	sequence uint64
	stored   time.Time
	// worker is not nil where a worker gave the message up after it had been in
	// its stream: the message as it was there, under the copy's own id.
	worker *nats.Msg
}

// parse reads what subject and headers of a quarantined message say.
func parse(m natsjs.Msg) (*stored, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read a message of the quarantine: %w", err)
	}
	h := m.Headers()
	s := &stored{sequence: meta.Sequence.Stream, stored: meta.Timestamp}
	s.Rejected = bridge.Rejected{
		ID: h.Get(natsjs.MsgIDHeader), Topic: header(h, bridge.HeaderTopic), CN: header(h, bridge.HeaderCN),
		Payload: m.Data(), Size: len(m.Data()), At: meta.Timestamp,
		Retained: h.Get(bridge.HeaderRetained) == "true",
	}
	rest := strings.TrimPrefix(m.Subject(), bridge.QuarantineSubject+".")
	_, s.Subject, _ = strings.Cut(rest, ".")
	if size, err := strconv.Atoi(h.Get(bridge.HeaderSize)); err == nil {
		s.Size = size
	}
	if at, err := time.Parse(time.RFC3339, h.Get(bridge.HeaderTime)); err == nil {
		s.At = at
	}
	if h.Get(jetstream.HeaderMessageID) != "" {
		s.worker = nats.NewMsg(s.Subject)
		s.worker.Data = m.Data()
		for name, values := range h {
			if name != bridge.HeaderReason && name != bridge.HeaderDetail {
				s.worker.Header[name] = values
			}
		}
	}
	return s, nil
}

// header tells an empty header from none.
func header(h nats.Header, name string) []byte {
	if values, ok := h[name]; ok && len(values) > 0 {
		return []byte(values[0])
	}
	return nil
}

func outgoing(m *bridge.Message) *nats.Msg {
	out := nats.NewMsg(string(m.Subject))
	out.Data = m.Payload
	if len(m.ID) > 0 {
		out.Header.Set(natsjs.MsgIDHeader, string(m.ID))
	}
	for _, h := range m.Headers {
		out.Header.Set(h.Name, string(h.Value))
	}
	return out
}

// read hands the messages of a stream to f, some at a time, until the sequence last.
func read(ctx context.Context, stream natsjs.Stream, cfg natsjs.ConsumerConfig, last uint64, f func(context.Context, []natsjs.Msg) error) error {
	name := stream.CachedInfo().Config.Name
	// Unacknowledged and in memory: it is gone with the server, and so is the run.
	cfg.AckPolicy, cfg.MemoryStorage, cfg.InactiveThreshold = natsjs.AckNonePolicy, true, 5*time.Minute
	consumer, err := stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		// What fails here goes away by itself.
		_ = stream.DeleteConsumer(done, consumer.CachedInfo().Name)
	}()
	pending, next := consumer.CachedInfo().NumPending, uint64(1)
	for silent := false; pending > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// Messages that expire meanwhile are waited for in vain.
		batch, err := consumer.Fetch(int(min(pending, chunk)), natsjs.FetchMaxWait(5*time.Second))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		var messages []natsjs.Msg
		end := false
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read stream %s: %w", name, err)
			}
			if meta.Sequence.Consumer != next {
				return fmt.Errorf("read stream %s: messages were lost on the way; run it again", name)
			}
			next++
			pending = meta.NumPending
			if end = end || meta.Sequence.Stream > last; !end {
				messages = append(messages, m)
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
				return errors.New("read stream " + name + ": it says that there are messages and sends none")
			}
			silent = true
			info, err := consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("read stream %s: %w", name, err)
			}
			pending = info.NumPending
		}
		if end {
			return nil
		}
	}
	return nil
}
