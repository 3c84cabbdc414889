package leaf

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// doubt advances the sequences of empty streams. For the others it records that the store may have
// been restored from a copy, in which case the hub has more than they contain. A report of the hub
// from before this process's link cannot be about messages of this process. So where it matters,
// the link waits for that report.
func (l *Leaf) doubt(ctx context.Context) error {
	doubt, stored := map[string]uint64{}, false
	for _, spec := range l.options.Streams {
		stream, err := l.js.Stream(ctx, spec.Name)
		if err != nil {
			return fmt.Errorf("read local stream %s: %w", spec.Name, err)
		}
		s := stream.CachedInfo().State
		if s.Msgs == 0 {
			if floor := sequenceFloor(time.Now()); floor > s.LastSeq+1 {
				if err := stream.Purge(ctx, natsjs.WithPurgeSequence(floor)); err != nil {
					return fmt.Errorf("advance the sequence of local stream %s: %w", spec.Name, err)
				}
			}
			continue
		}
		last, doubted := l.mark.Doubt[spec.Name]
		if !doubted || last > s.LastSeq {
			last = s.LastSeq
		}
		doubt[spec.Name] = last
		stored = stored || last < s.LastSeq
	}
	if !maps.Equal(doubt, l.mark.Doubt) {
		l.mark.Doubt = doubt
		if err := writeStoreMark(l.options.StoreDir, l.mark); err != nil {
			return err
		}
	}
	// After a power cut nothing is stored until the sequences are known to be new, which requires
	// the link.
	if len(doubt) == 0 || l.mark.SetBack && !stored {
		return l.join()
	}
	return nil
}

// Prove opens the link once the hub has reported, for every stream that contains messages, no more
// than the stream had when the store was opened. If it has more (see [Backlog.Ahead]), or if a
// power cut may have set the store back, there is no link. hub is the hub's report.
func (l *Leaf) Prove(hub map[string]uint64) error {
	if len(l.mark.Doubt) == 0 || l.mark.SetBack {
		return nil
	}
	for stream, last := range l.mark.Doubt {
		// A hub that has just started reports no source at first.
		if at, known := hub[stream]; !known || at > last {
			return nil
		}
	}
	return l.proven()
}

// proven records that no sequence can occur twice.
func (l *Leaf) proven() error {
	mark := storeMark{Boot: l.mark.Boot}
	if err := writeStoreMark(l.options.StoreDir, mark); err != nil {
		return err
	}
	l.mark = mark
	if l.apart {
		return l.join()
	}
	return nil
}

// Rebooted reports whether the store may have returned to an earlier state.
func (l *Leaf) Rebooted() bool { return l.mark.SetBack }

// Renumber makes sure that no sequence is assigned again that the hub has seen, after the store may
// have returned to an earlier state. It needs the hub's report only for streams that contain
// messages: an empty stream takes its next sequence from the clock. ask reports that the hub must
// be asked again.
func (l *Leaf) Renumber(ctx context.Context, hub map[string]uint64) (ask bool, err error) {
	for _, spec := range l.options.Streams {
		stream, err := l.js.Stream(ctx, spec.Name)
		if err != nil {
			return false, fmt.Errorf("read local stream %s: %w", spec.Name, err)
		}
		s := stream.CachedInfo().State
		at, known := hub[spec.Name]
		if s.Msgs > 0 {
			before, doubted := l.mark.Doubt[spec.Name]
			if !doubted {
				before = s.LastSeq
			}
			if known && at <= before {
				continue
			}
			// A hub that has just started reports no source at first.
			has := false
			if known && before == s.LastSeq {
				if has, err = l.hubGoesOnBeyond(spec.Name, s.LastSeq); err != nil {
					return false, err
				}
			}
			if !has {
				ask = true
				continue
			}
		}
		// Everything that the hub has beyond our last sequence we once had too, and it has all that
		// is left here.
		next := max(sequenceFloor(time.Now()), at+1, s.LastSeq+1)
		if err := stream.Purge(ctx, natsjs.WithPurgeSequence(next)); err != nil {
			return false, fmt.Errorf("advance the sequence of local stream %s: %w", spec.Name, err)
		}
	}
	if ask || !l.mark.SetBack {
		return ask, nil
	}
	return false, l.proven()
}

// hubGoesOnBeyond reports whether the hub asks this very stream for messages after a sequence. Its
// request contains the stream's creation time, and for another stream it begins from the start
// (nats-server 2.15, JSConsumerStreamIdentityMismatch). So what it has up to there does not come
// from another bridge with the same domain.
func (l *Leaf) hubGoesOnBeyond(stream string, number uint64) (bool, error) {
	// The API does not list the consumers of sources.
	account, err := l.server.NATS().JszAccount(&natsd.JSzOptions{Account: natsd.DEFAULT_GLOBAL_ACCOUNT, Streams: true, Consumer: true, DirectConsumer: true, Config: true})
	if err != nil {
		return false, fmt.Errorf("list the hub's consumers: %w", err)
	}
	for _, s := range account.Streams {
		if s.Name != stream {
			continue
		}
		for _, c := range slices.Concat(s.Consumer, s.DirectConsumer) {
			if c.Config != nil && c.Config.OptStartSeq > number+1 {
				return true, nil
			}
		}
	}
	return false, nil
}
