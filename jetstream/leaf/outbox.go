package leaf

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// The streams of a leaf node keep messages until the hub has confirmed them. The info of the hub's
// stream contains, per source, the sequence up to which it has stored (field seq, nats-server 2.15;
// stored, not in flight). The local stream is purged up to that sequence. Messages leave it in no
// other way.

// Backlog describes the messages waiting in one local stream.
type Backlog struct {
	Stream   string
	Messages uint64 // not known to be stored by the hub
	Bytes    uint64
	Oldest   time.Time // of the oldest message; zero: none
	// Last is the newest sequence. Hub is the sequence up to which the hub has stored; 0: nothing,
	// or the hub was not asked yet.
	Last, Hub uint64
	// RolledBack means that the hub had more than the local stream before the link was established.
	RolledBack bool
}

// Ahead reports whether the hub claims to have stored more than the local stream ever contained.
// Either the store was restored from an older copy, or another bridge uses the domain. It is then
// unknown which local messages the hub has.
func (b Backlog) Ahead() bool { return b.Hub > b.Last || b.RolledBack }

// Used returns the size of all streams in bytes, including messages that the hub has stored but
// that are not purged yet.
func (l *Leaf) Used(ctx context.Context) (uint64, error) {
	info, err := l.js.AccountInfo(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the leaf node's usage: %w", err)
	}
	return info.Store, nil
}

// Backlog reads the local streams, in the order of the options. hub contains, by stream, the
// sequence up to which the hub has stored.
func (l *Leaf) Backlog(ctx context.Context, hub map[string]uint64) ([]Backlog, error) {
	var all []Backlog
	err := l.eachStream(ctx, func(name string, stream natsjs.Stream, s natsjs.StreamState) error {
		b := Backlog{Stream: name, Last: s.LastSeq, Hub: hub[name]}
		openedAt, unconfirmed := l.mark.Unconfirmed[name]
		b.RolledBack = unconfirmed && l.linkDisabled.Load() && b.Hub > openedAt
		// Single messages are never deleted, so the sequences are contiguous.
		first := max(s.FirstSeq, b.Hub+1)
		if b.Ahead() {
			first = s.FirstSeq
		}
		if s.Msgs > 0 && first <= s.LastSeq {
			b.Messages = s.LastSeq - first + 1
			b.Bytes = uint64(float64(s.Bytes) * float64(b.Messages) / float64(s.Msgs))
			b.Oldest = s.FirstTime
			if first > s.FirstSeq {
				// The message may have been purged since. The next call will show it.
				if m, err := stream.GetMsg(ctx, first); err == nil {
					b.Oldest = m.Time
				}
			}
		}
		all = append(all, b)
		return nil
	})
	return all, err
}

// Purge removes the messages that the hub has stored.
func (l *Leaf) Purge(ctx context.Context, hub map[string]uint64) error {
	return l.eachStream(ctx, func(name string, stream natsjs.Stream, s natsjs.StreamState) error {
		// Purge nothing if the hub claims, or may claim, to have more than exists; see Ahead.
		if _, unconfirmed := l.mark.Unconfirmed[name]; unconfirmed {
			return nil
		}
		if upTo := hub[name]; s.Msgs > 0 && upTo <= s.LastSeq && upTo >= s.FirstSeq {
			if err := stream.Purge(ctx, natsjs.WithPurgeSequence(upTo+1)); err != nil {
				return fmt.Errorf("purge local stream %s: %w", name, err)
			}
		}
		return nil
	})
}

// AdvanceEmpty advances the sequences of empty local streams beyond what the hub claims to have
// stored, because the hub would skip lower ones. A stream that contains messages is not changed;
// see [Backlog.Ahead].
func (l *Leaf) AdvanceEmpty(ctx context.Context, hub map[string]uint64) error {
	return l.eachStream(ctx, func(name string, stream natsjs.Stream, s natsjs.StreamState) error {
		if s.Msgs > 0 || hub[name] <= s.LastSeq {
			return nil
		}
		return advance(ctx, stream, hub[name]+1)
	})
}

// Pause makes the local streams refuse every message (error 10077), or accept messages again. It
// enforces an age limit without discarding messages.
func (l *Leaf) Pause(ctx context.Context, pause bool) error {
	// On a stream that discards new messages, a lowered limit removes nothing. Every message exceeds
	// the limit of one byte.
	limit := int64(-1)
	if pause {
		limit = 1
	}
	return l.eachStream(ctx, func(name string, stream natsjs.Stream, _ natsjs.StreamState) error {
		cfg := stream.CachedInfo().Config
		if cfg.MaxBytes == limit {
			return nil
		}
		cfg.MaxBytes = limit
		if _, err := l.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("update local stream %s: %w", name, err)
		}
		return nil
	})
}

// eachStream reads the local streams, in the order of the options, and calls do with each until an
// error occurs.
func (l *Leaf) eachStream(ctx context.Context, do func(name string, stream natsjs.Stream, s natsjs.StreamState) error) error {
	for _, spec := range l.options.Streams {
		stream, err := l.js.Stream(ctx, spec.Name)
		if err != nil {
			return fmt.Errorf("read local stream %s: %w", spec.Name, err)
		}
		if err := do(spec.Name, stream, stream.CachedInfo().State); err != nil {
			return err
		}
	}
	return nil
}

// advance makes the next sequence of a stream one that never occurred: at least the given one, and
// above those derived from the clock. It removes the messages before it.
func advance(ctx context.Context, stream natsjs.Stream, atLeast uint64) error {
	next := max(sequenceFloor(time.Now()), atLeast)
	if err := stream.Purge(ctx, natsjs.WithPurgeSequence(next)); err != nil {
		return fmt.Errorf("advance the sequence of local stream %s: %w", stream.CachedInfo().Config.Name, err)
	}
	return nil
}

// ErrHubTooOld means that the hub's server does not report how far a stream has sourced.
var ErrHubTooOld = errors.New("the hub's nats-server does not report how far it has sourced: it must be 2.15 or later")

// ReportsSourced reports whether a server of that version reports how far it has sourced.
func ReportsSourced(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 2 || major == 2 && minor >= 15
}

// sourceSilence is the longest silence of a working source. Its consumer sends a heartbeat every
// second (nats-server 2.15, sourceHealthHB).
const sourceSilence = 5 * time.Second

// ErrUnsourced means that a stream of the hub is missing or does not source from this leaf node, so
// messages stored here do not reach the hub.
var ErrUnsourced = errors.New("the hub does not source from this leaf node")

// SourcedUpTo asks the hub up to which sequence each of its streams has stored the domain's
// messages. If a stream is missing or has no such source, it has stored nothing, and the error is
// an [ErrUnsourced]. upToDate reports that the hub has just received everything: a message that it
// has not stored by then was skipped as a duplicate.
func SourcedUpTo(ctx context.Context, hub natsjs.JetStream, streams []streams.Spec) (positions map[string]uint64, upToDate map[string]bool, err error) {
	positions, upToDate = map[string]uint64{}, map[string]bool{}
	var problems []error
	for _, spec := range streams {
		stream, err := hub.Stream(ctx, spec.Name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			problems = append(problems, fmt.Errorf("%w: it has no stream %s", ErrUnsourced, spec.Name))
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("ask the hub for stream %s: %w", spec.Name, conn.Explain(err, conn.APISubject(hub, "STREAM.INFO."+spec.Name)))
		}
		for _, want := range spec.Sources {
			source := findSource(stream.CachedInfo().Sources, want)
			switch {
			case source == nil:
				problems = append(problems, fmt.Errorf("%w: stream %s at the hub does not source %s", ErrUnsourced, spec.Name, want))
				continue
			case source.Error != nil:
				problems = append(problems, fmt.Errorf("stream %s at the hub cannot source %s: %w", spec.Name, want, source.Error))
			}
			positions[want.Stream] = source.Seq
			upToDate[want.Stream] = source.Error == nil && source.Lag == 0 && source.Active >= 0 && source.Active < sourceSilence
		}
	}
	return positions, upToDate, errors.Join(problems...)
}

func findSource(sources []*natsjs.StreamSourceInfo, want streams.SourceSpec) *natsjs.StreamSourceInfo {
	for _, s := range sources {
		if s.Name == want.Stream && s.External != nil && s.External.APIPrefix == want.API() {
			return s
		}
	}
	return nil
}
