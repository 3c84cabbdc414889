package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
)

// claimSubject is the subject of claims while a replay is in progress. No reason is named replay.
const claimSubject = bridge.QuarantineSubject + ".replay"

// claimed is a message that a replay is about to publish.
type claimed struct {
	Sequence uint64 `json:"sequence"` // in the quarantine stream
	Subject  string `json:"subject"`
	ID       string `json:"id"`
}

// claim stores the list of messages that are about to be published, and returns the sequence of this
// claim in the quarantine stream.
func (r *replay) claim(ctx context.Context, messages []*moving) (uint64, error) {
	list := make([]claimed, len(messages))
	for i, m := range messages {
		list[i] = claimed{m.sequence, m.message.Subject, m.id()}
	}
	data, err := json.Marshal(list)
	if err != nil {
		return 0, err
	}
	ack, err := r.JetStream.Publish(ctx, claimSubject, data, natsjs.WithExpectStream(r.Stream))
	if err != nil {
		return 0, fmt.Errorf("publish the claim %s: %w", claimSubject, err)
	}
	return ack.Sequence, nil
}

// recover deletes the messages that interrupted replays have stored from quarantine, and their claims.
func (r *replay) recover(ctx context.Context) error {
	for {
		m, err := r.stream.GetLastMsgForSubject(ctx, claimSubject)
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var list []claimed
		if err := json.Unmarshal(m.Data, &list); err != nil {
			return fmt.Errorf("message %d of %s is not a claim of a replay: %w", m.Sequence, r.Stream, err)
		}
		found, err := r.find(ctx, list, m.Time)
		if err != nil {
			return err
		}
		if err := r.remove(ctx, append(found, m.Sequence)); err != nil {
			return err
		}
		r.report.Recovered += len(found)
	}
}

// find searches the streams of their subjects for claimed messages, and returns the quarantine sequences
// of those that it finds.
func (r *replay) find(ctx context.Context, list []claimed, since time.Time) ([]uint64, error) {
	claims := map[string][]claimed{} // by stream
	streams := map[string]string{}   // by subject
	for _, c := range list {
		name, ok := streams[c.Subject]
		if !ok {
			var err error
			name, err = r.JetStream.StreamNameBySubject(ctx, c.Subject)
			if errors.Is(err, natsjs.ErrStreamNotFound) {
				continue // nothing was stored
			}
			if err != nil {
				return nil, fmt.Errorf("find the stream of %s: %w", c.Subject, err)
			}
			streams[c.Subject] = name
		}
		claims[name] = append(claims[name], c)
	}
	// The leaders of two streams may be on servers with different clocks.
	since = since.Add(-time.Minute)
	var found []uint64
	for name, group := range claims {
		stream, err := r.JetStream.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		cfg := natsjs.ConsumerConfig{
			HeadersOnly: true, DeliverPolicy: natsjs.DeliverByStartTimePolicy, OptStartTime: &since,
		}
		sequences := map[string]uint64{} // by message id
		for _, c := range group {
			cfg.FilterSubjects = append(cfg.FilterSubjects, c.Subject)
			sequences[c.ID] = c.Sequence
		}
		slices.Sort(cfg.FilterSubjects)
		cfg.FilterSubjects = slices.Compact(cfg.FilterSubjects)
		err = read(ctx, stream, cfg, stream.CachedInfo().State.LastSeq, func(_ context.Context, messages []*natsjs.RawStreamMsg) error {
			for _, m := range messages {
				if sequence, ok := sequences[m.Header.Get(natsjs.MsgIDHeader)]; ok {
					found = append(found, sequence)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// removers is the number of concurrent deletions.
const removers = 16

// remove deletes messages from quarantine. A message that no longer exists is not an error.
func (r *replay) remove(ctx context.Context, sequences []uint64) error {
	work := make(chan uint64)
	errs := make([]error, removers)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for sequence := range work {
				if errs[i] == nil {
					errs[i] = r.removeOne(ctx, sequence)
				}
			}
		})
	}
	for _, sequence := range sequences {
		work <- sequence
	}
	close(work)
	workers.Wait()
	return errors.Join(errs...)
}

func (r *replay) removeOne(ctx context.Context, sequence uint64) error {
	err := r.stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	if _, missing := r.stream.GetMsg(ctx, sequence); errors.Is(missing, natsjs.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("delete message %d from %s: %w", sequence, r.Stream, err)
}
