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

// checkSequences advances the sequences of empty streams. For the others it records that the store
// may have been restored from a copy, in which case the hub has more than they contain. A report of
// the hub from before this process's link cannot be about messages of this process. So where it
// matters, the link waits for that report.
func (l *Leaf) checkSequences(ctx context.Context) error {
	unconfirmed, stored := map[string]uint64{}, false
	err := l.eachStream(ctx, func(name string, stream natsjs.Stream, s natsjs.StreamState) error {
		if s.Msgs == 0 {
			if sequenceFloor(time.Now()) > s.LastSeq+1 {
				return advance(ctx, stream, 0)
			}
			return nil
		}
		last, known := l.mark.Unconfirmed[name]
		if !known || last > s.LastSeq {
			last = s.LastSeq
		}
		unconfirmed[name] = last
		stored = stored || last < s.LastSeq
		return nil
	})
	if err != nil {
		return err
	}
	if !maps.Equal(unconfirmed, l.mark.Unconfirmed) {
		l.mark.Unconfirmed = unconfirmed
		if err := writeStoreMark(l.options.StoreDir, l.mark); err != nil {
			return err
		}
	}
	// After a power cut nothing is stored until the sequences are known to be new, which requires
	// the link.
	if len(unconfirmed) == 0 || l.mark.RolledBack && !stored {
		return l.openLink()
	}
	return nil
}

// ConfirmSequences enables the link once the hub has reported that it has no more than each
// non-empty stream contained when the store was opened. If the hub has more (see [Backlog.Ahead]),
// or if a power cut may have rolled the store back, the link stays disabled. hub is the hub's
// report.
func (l *Leaf) ConfirmSequences(hub map[string]uint64) error {
	if len(l.mark.Unconfirmed) == 0 || l.mark.RolledBack {
		return nil
	}
	for stream, last := range l.mark.Unconfirmed {
		// A hub that has just started reports no source at first.
		if at, known := hub[stream]; !known || at > last {
			return nil
		}
	}
	return l.sequencesConfirmed()
}

// sequencesConfirmed records that no sequence can occur twice.
func (l *Leaf) sequencesConfirmed() error {
	mark := storeMark{Boot: l.mark.Boot}
	if err := writeStoreMark(l.options.StoreDir, mark); err != nil {
		return err
	}
	l.mark = mark
	if l.linkDisabled.Load() {
		return l.openLink()
	}
	return nil
}

// Rebooted reports whether a reboot may have rolled the store back to an earlier state.
func (l *Leaf) Rebooted() bool { return l.mark.RolledBack }

// Renumber makes sure, after the store may have been rolled back, that no sequence is assigned
// again that the hub has seen. It needs the hub's report only for streams that contain messages: an
// empty stream takes its next sequence from the clock. askAgain reports that the hub must be asked
// again.
func (l *Leaf) Renumber(ctx context.Context, hub map[string]uint64) (askAgain bool, err error) {
	err = l.eachStream(ctx, func(name string, stream natsjs.Stream, s natsjs.StreamState) (err error) {
		at, known := hub[name]
		if s.Msgs > 0 {
			openedAt, unconfirmed := l.mark.Unconfirmed[name]
			if !unconfirmed {
				openedAt = s.LastSeq
			}
			if known && at <= openedAt {
				return nil
			}
			// A hub that has just started reports no source at first.
			stored := false
			if known && openedAt == s.LastSeq {
				stored, err = l.hubContinuesAfter(name, s.LastSeq)
			}
			if err != nil || !stored {
				askAgain = true
				return err
			}
		}
		// The hub's messages beyond our last sequence were once stored here, and the hub has all
		// remaining messages.
		return advance(ctx, stream, max(at, s.LastSeq)+1)
	})
	if err != nil || askAgain || !l.mark.RolledBack {
		return askAgain, err
	}
	return false, l.sequencesConfirmed()
}

// hubContinuesAfter reports whether the hub requests messages of this very stream after a sequence.
// Its request contains the stream's creation time, and for another stream it begins from the start
// (nats-server 2.15, JSConsumerStreamIdentityMismatch). So the messages that it has up to there are
// not from another bridge with the same domain.
func (l *Leaf) hubContinuesAfter(stream string, number uint64) (bool, error) {
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
