package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// Filter selects messages in quarantine. The zero value selects all.
type Filter struct {
	Reasons        []verdict.Reason
	Tenant, Device string
	// Since and Until bound the time at which a message was quarantined; zero: no bound.
	Since, Until time.Time
}

func (f *Filter) selects(tenant, device string, stored time.Time) bool {
	return (f.Tenant == "" || f.Tenant == tenant) && (f.Device == "" || f.Device == device) &&
		(f.Since.IsZero() || !stored.Before(f.Since)) && (f.Until.IsZero() || !stored.After(f.Until))
}

// consumer returns a consumer of the messages that have one of the reasons and are not older than Since.
func (f *Filter) consumer() natsjs.ConsumerConfig {
	cfg := natsjs.ConsumerConfig{FilterSubjects: filters(f.Reasons)}
	if !f.Since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = natsjs.DeliverByStartTimePolicy, &f.Since
	}
	return cfg
}

// Reader reads a quarantine stream without changing its messages. Its methods delete their consumers
// before they return. A consumer that could not be deleted expires after five minutes.
type Reader struct {
	JetStream natsjs.JetStream
	// Stream is the quarantine stream's name.
	Stream string
	// Rules determine tenant and device of a topic.
	Rules *bridge.Rules
}

// ErrNoMessage means that quarantine has no message with the requested sequence.
var ErrNoMessage = errors.New("no such message in quarantine")

func (r *Reader) open(ctx context.Context) (natsjs.Stream, error) {
	s, err := r.JetStream.Stream(ctx, r.Stream)
	if err != nil {
		return nil, fmt.Errorf("look up the quarantine stream %s: %w", r.Stream, err)
	}
	return s, nil
}

// firstWindow is the number of sequences that List searches first.
const firstWindow = 256

// List returns the newest n selected messages, the newest first, without payload. It reads the stream
// backwards in growing windows, so that the cost does not depend on the size of the stream.
func (r *Reader) List(ctx context.Context, f Filter, n int) ([]Message, error) {
	stream, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	all := []Message{}
	first := max(state.FirstSeq, 1)
	for last, window := state.LastSeq, uint64(max(firstWindow, 2*n)); last >= first && state.Msgs > 0; window *= 4 {
		from := first
		if last-first >= window {
			from = last - window + 1
		}
		var found []Message
		older := false
		err := r.read(ctx, stream, f, from, last, func(m Message) {
			older = older || m.Stored.Before(f.Since)
			if f.selects(m.Tenant, m.Device, m.Stored) {
				found = append(found, m)
				if len(found) > n {
					found = slices.Delete(found, 0, 1)
				}
			}
		})
		if err != nil {
			return nil, err
		}
		slices.Reverse(found)
		all = append(all, found[:min(n-len(all), len(found))]...)
		if len(all) == n || older || from == first {
			break
		}
		last = from - 1
	}
	return all, nil
}

// Each calls visit with every selected message, the oldest first, without payload.
func (r *Reader) Each(ctx context.Context, f Filter, visit func(Message)) error {
	stream, err := r.open(ctx)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	return r.read(ctx, stream, f, 0, state.LastSeq, func(m Message) {
		if f.selects(m.Tenant, m.Device, m.Stored) {
			visit(m)
		}
	})
}

// read calls visit with the messages up to last that have one of the filter's reasons. It starts at from,
// or at the filter's Since if from is 0.
func (r *Reader) read(ctx context.Context, stream natsjs.Stream, f Filter, from, last uint64, visit func(Message)) error {
	cfg := f.consumer()
	cfg.HeadersOnly = true
	if from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = natsjs.DeliverByStartSequencePolicy, from, nil
	}
	return read(ctx, stream, cfg, last, func(_ context.Context, messages []*natsjs.RawStreamMsg) error {
		for _, m := range messages {
			if m.Subject != claimSubject {
				m.Data = nil // headers only
				visit(message(m, r.Rules))
			}
		}
		return nil
	})
}

// Get returns one message with its payload. The error wraps [ErrNoMessage] if no message has that
// sequence.
func (r *Reader) Get(ctx context.Context, sequence uint64) (*Message, error) {
	stream, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) || err == nil && raw.Subject == claimSubject {
		return nil, fmt.Errorf("%w: sequence %d of %s", ErrNoMessage, sequence, r.Stream)
	}
	if err != nil {
		return nil, fmt.Errorf("read message %d of %s: %w", sequence, r.Stream, err)
	}
	m := message(raw, r.Rules)
	return &m, nil
}
