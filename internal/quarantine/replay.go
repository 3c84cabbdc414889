package quarantine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/jetstream/publish"
)

// Options selects the messages to replay. At least one reason is required.
type Options struct {
	// Reader and MaxPayload (in bytes) are used to read and re-validate the messages.
	Reader
	MaxPayload int
	Filter
	// DryRun validates the messages without changing anything.
	DryRun bool
	// Progress is called periodically with the counts so far; nil: never.
	Progress func(*Report)
}

// Report counts the results for the selected messages.
type Report struct {
	Selected int
	// Stored counts messages moved from quarantine to their streams, or with DryRun those that would
	// be moved.
	Stored int
	// Duplicates counts the messages of Stored that their stream already contained.
	Duplicates int
	// Staying counts the messages that stay in quarantine, by reason.
	Staying map[Stay]int
	// Recovered counts messages that an interrupted replay had stored. They are now deleted from
	// quarantine and not included in Selected.
	Recovered int
}

// Stay is a reason for which messages stay in quarantine.
type Stay struct {
	Reason verdict.Reason
	Detail string // of one of these messages
}

// addStay counts a message that stays in quarantine. The first detail per reason is kept.
func (r *Report) addStay(reason verdict.Reason, detail string) {
	for s := range r.Staying {
		if s.Reason == reason {
			r.Staying[s]++
			return
		}
	}
	r.Staying[Stay{reason, detail}] = 1
}

// chunk is the number of messages that are claimed, published and deleted together.
const chunk = 200

// replay is one run.
type replay struct {
	Options
	stream natsjs.Stream
	report *Report
}

// Replay moves the selected messages to their streams. The report is never nil. With an error, it counts
// the work done before the error, and another call continues.
func Replay(ctx context.Context, o Options) (*Report, error) {
	r := &replay{Options: o, report: &Report{Staying: map[Stay]int{}}}
	var err error
	if r.stream, err = o.open(ctx); err != nil {
		return r.report, err
	}
	if !o.DryRun {
		if err := r.recover(ctx); err != nil {
			return r.report, fmt.Errorf("clean up after an interrupted replay: %w", err)
		}
	}
	err = read(ctx, r.stream, o.consumer(), r.stream.CachedInfo().State.LastSeq, r.batch)
	return r.report, err
}

// filters returns the subjects of these reasons. Messages with an invalid topic may have no subject
// after the reason.
func filters(reasons []verdict.Reason) []string {
	var all []string
	for _, reason := range reasons {
		subject := bridge.QuarantineSubject + "." + reason.String()
		all = append(all, subject+".>")
		if reason == verdict.BadTopic || reason == verdict.NotSubscribed {
			all = append(all, subject)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// moving is a message that is being moved from quarantine to its stream.
type moving struct {
	sequence uint64 // in the quarantine stream
	message  *nats.Msg
	ack      natsjs.PubAckFuture
}

func (m *moving) id() string { return m.message.Header.Get(natsjs.MsgIDHeader) }

// batch re-validates messages and moves those that pass.
func (r *replay) batch(ctx context.Context, messages []*natsjs.RawStreamMsg) error {
	var accepted []*moving
	for _, m := range messages {
		c := parse(m)
		validated := r.Rules.Restore(&c.Rejected, r.MaxPayload)
		if !r.selects(string(validated.Tenant), string(validated.Device), c.stored) {
			continue
		}
		r.report.Selected++
		if c.worker != nil {
			if reason := r.mustStay(c); reason != "" {
				r.report.addStay(verdict.BadPayload, reason)
				continue
			}
			accepted = append(accepted, &moving{sequence: c.sequence, message: c.worker})
			continue
		}
		if validated.Reason != verdict.Accepted {
			r.report.addStay(validated.Reason, validated.Detail)
			continue
		}
		accepted = append(accepted, &moving{sequence: c.sequence, message: outgoing(validated.Message)})
	}
	if r.DryRun {
		r.report.Stored += len(accepted)
		return nil
	}
	if len(accepted) == 0 {
		return nil
	}
	err := r.move(ctx, accepted)
	if r.Progress != nil {
		r.Progress(r.report)
	}
	return err
}

// mustStay returns the reason why a message from a worker must stay in quarantine; empty: it may be
// moved. The rules are not applied, because the message was validated before it was stored, and its
// payload may be an envelope. If a worker fails to process it again within the deduplication window, the
// new copy would have the same id, and JetStream would drop it as a duplicate.
func (r *replay) mustStay(m *copied) string {
	if m.Subject == "" {
		return "the copy does not contain its original subject"
	}
	if m.Size > len(m.Payload) {
		return fmt.Sprintf("the copy does not contain the whole payload of %d bytes", m.Size)
	}
	window := r.stream.CachedInfo().Config.Duplicates
	if free := m.stored.Add(window); time.Now().Before(free) {
		return fmt.Sprintf("it was quarantined less than %s ago, within the deduplication window; try again after %s",
			window, free.UTC().Format(time.TimeOnly+" UTC"))
	}
	return ""
}

// move publishes messages and deletes the stored ones from quarantine. If it fails, the claim remains
// for the next replay.
func (r *replay) move(ctx context.Context, messages []*moving) error {
	claim, err := r.claim(ctx, messages)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.ack, err = r.JetStream.PublishMsgAsync(m.message); err != nil {
			return fmt.Errorf("publish %s: %w", m.message.Subject, err)
		}
	}
	var failed error
	var stored []uint64
	acks, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for _, m := range messages {
		select {
		case ack := <-m.ack.Ok():
			stored = append(stored, m.sequence)
			if ack.Duplicate {
				r.report.Duplicates++
			}
		case err := <-m.ack.Err():
			if publish.Classify(err) == publish.Reject {
				r.report.addStay(verdict.Refused, err.Error())
			} else if failed == nil {
				failed = fmt.Errorf("publish %s: %w", m.message.Subject, err)
			}
		case <-acks.Done():
			if failed == nil {
				failed = fmt.Errorf("publish %s: no answer from JetStream: %w", m.message.Subject, context.Cause(acks))
			}
		}
	}
	// Stored messages are deleted from quarantine even if ctx has ended.
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if err := r.remove(finish, stored); err != nil {
		return err
	}
	r.report.Stored += len(stored)
	if failed != nil {
		return failed
	}
	return r.remove(finish, []uint64{claim})
}

// answerTimeout bounds each wait for an answer from JetStream.
const answerTimeout = 30 * time.Second
