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

// doubt moves the numbers of empty streams on, and notes of the others that a copy may
// have been put back: then the hub has more than they hold. What the hub says before
// there is a link in this process cannot be of what this process has stored, so the link
// waits for it where it can matter.
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
					return fmt.Errorf("move the numbers of local stream %s on: %w", spec.Name, err)
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
	// After a power cut nothing is stored until the numbers are known to be new, and
	// that takes the link.
	if len(doubt) == 0 || l.mark.SetBack && !stored {
		return l.join()
	}
	return nil
}

// Prove opens the link once the hub has said of every stream that holds messages that it
// has no more than there was when the store was opened. Where it has, see [Backlog.Ahead],
// and in a store that a power cut may have set back, there is none. hub is the hub's word.
func (l *Leaf) Prove(hub map[string]uint64) error {
	if len(l.mark.Doubt) == 0 || l.mark.SetBack {
		return nil
	}
	for stream, last := range l.mark.Doubt {
		// A hub that has just started tells of no source at first.
		if at, known := hub[stream]; !known || at > last {
			return nil
		}
	}
	return l.proven()
}

// proven notes that no number can come twice.
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

// Rebooted tells whether the store may have gone back to an earlier state.
func (l *Leaf) Rebooted() bool { return l.mark.SetBack }

// Renumber makes sure that no number is given out again that the hub has seen,
// after the store may have gone back. It needs the hub's word only for streams
// that hold something: an empty one takes its next number from the clock. ask: the
// hub must be asked again.
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
			// A hub that has just started tells of no source at first.
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
		// What the hub has beyond our last number we once had too, and all
		// that is left here it has.
		next := max(sequenceFloor(time.Now()), at+1, s.LastSeq+1)
		if err := stream.Purge(ctx, natsjs.WithPurgeSequence(next)); err != nil {
			return false, fmt.Errorf("move the numbers of local stream %s on: %w", spec.Name, err)
		}
	}
	if ask || !l.mark.SetBack {
		return ask, nil
	}
	return false, l.proven()
}

// hubGoesOnBeyond reports whether the hub asks this very stream for what comes after a
// number. It names the stream by its time of creation when it asks, and begins from the
// start where that is another one (nats-server 2.15, JSConsumerStreamIdentityMismatch). So
// what it has up to there is not of another bridge with the same domain.
func (l *Leaf) hubGoesOnBeyond(stream string, number uint64) (bool, error) {
	// The API does not list consumers that source.
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
