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

// Options describes what to replay.
type Options struct {
	JetStream natsjs.JetStream
	// Stream is the quarantine stream's name.
	Stream string
	// Rules and MaxPayload, in bytes, re-validate the messages.
	Rules      *bridge.Rules
	MaxPayload int
	// Reasons are those to replay, at least one.
	Reasons []verdict.Reason
	// Tenant and Device select by the topic's; empty: all.
	Tenant, Device string
	// Since and Until bound when a message was quarantined; zero: no bound.
	Since, Until time.Time
	// DryRun validates and changes nothing.
	DryRun bool
	// Progress is called periodically with the counts so far; nil: never.
	Progress func(*Report)
}

// Report counts the results for the selected messages.
type Report struct {
	Selected int
	// Stored counts messages moved from quarantine to their streams; with DryRun, those that would
	// be.
	Stored int
	// Duplicates counts those of Stored that the stream already had.
	Duplicates int
	// Staying are the messages that stay in quarantine, counted by reason.
	Staying map[Stay]int
	// Recovered counts messages that an interrupted run had stored. They are now deleted from
	// quarantine and not counted in Selected.
	Recovered int
}

// Stay is why messages stay in quarantine.
type Stay struct {
	Reason verdict.Reason
	Detail string // of one of them
}

// stays counts by reason and keeps the first detail.
func (r *Report) stays(reason verdict.Reason, detail string) {
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

// Replay moves the selected messages to their streams. The report is never nil; with an error it
// says what was done before. A further run continues.
func Replay(ctx context.Context, o Options) (*Report, error) {
	r := &replay{Options: o, report: &Report{Staying: map[Stay]int{}}}
	var err error
	if r.stream, err = o.JetStream.Stream(ctx, o.Stream); err != nil {
		return r.report, fmt.Errorf("look up the quarantine stream %s: %w", o.Stream, err)
	}
	if !o.DryRun {
		if err := r.recover(ctx); err != nil {
			return r.report, fmt.Errorf("clean up after an interrupted replay: %w", err)
		}
	}
	last := r.stream.CachedInfo().State.LastSeq
	cfg := natsjs.ConsumerConfig{FilterSubjects: filters(o.Reasons)}
	if !o.Since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = natsjs.DeliverByStartTimePolicy, &o.Since
	}
	err = read(ctx, r.stream, cfg, last, r.batch)
	return r.report, err
}

// filters returns the subjects of these reasons; a bad topic may have no subject of its own.
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

// moving is a message on its way out of quarantine.
type moving struct {
	sequence uint64 // in quarantine
	message  *nats.Msg
	ack      natsjs.PubAckFuture
}

func (m *moving) id() string { return m.message.Header.Get(natsjs.MsgIDHeader) }

// batch validates messages and moves those that pass.
func (r *replay) batch(ctx context.Context, messages []*natsjs.RawStreamMsg) error {
	var accepted []*moving
	for _, m := range messages {
		c := parse(m)
		if !r.Until.IsZero() && c.stored.After(r.Until) {
			continue
		}
		validated := r.Rules.Restore(&c.Rejected, r.MaxPayload)
		if r.Tenant != "" && r.Tenant != string(validated.Tenant) || r.Device != "" && r.Device != string(validated.Device) {
			continue
		}
		r.report.Selected++
		if c.worker != nil {
			if why := r.keeps(c); why != "" {
				r.report.stays(verdict.BadPayload, why)
				continue
			}
			accepted = append(accepted, &moving{sequence: c.sequence, message: c.worker})
			continue
		}
		if validated.Reason != verdict.Accepted {
			r.report.stays(validated.Reason, validated.Detail)
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

// keeps returns why a message that a worker gave up must stay; empty: it may be moved. It was
// validated when it was stored, so the rules are not applied, and its payload may be in an
// envelope. But a worker that still cannot process it would give the new copy the same id, and
// JetStream would drop that as a duplicate.
func (r *replay) keeps(m *copied) string {
	if m.Subject == "" {
		return "the copy does not contain its original subject"
	}
	if m.Size > len(m.Payload) {
		return fmt.Sprintf("the copy does not have the payload of %d bytes", m.Size)
	}
	window := r.stream.CachedInfo().Config.Duplicates
	if free := m.stored.Add(window); time.Now().Before(free) {
		return fmt.Sprintf("a worker gave it up less than %s ago and could not store it here again if it failed again; try after %s",
			window, free.UTC().Format(time.TimeOnly+" UTC"))
	}
	return ""
}

// move publishes messages and deletes those that JetStream has stored from quarantine. If it fails
// the claim stays, for the next run.
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
	answer, cancel := context.WithTimeout(ctx, answerTimeout)
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
				r.report.stays(verdict.Refused, err.Error())
			} else if failed == nil {
				failed = fmt.Errorf("publish %s: %w", m.message.Subject, err)
			}
		case <-answer.Done():
			if failed == nil {
				failed = fmt.Errorf("publish %s: no answer from JetStream: %w", m.message.Subject, context.Cause(answer))
			}
		}
	}
	// Stored messages leave quarantine even if the run was stopped.
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

// answerTimeout bounds each wait for JetStream.
const answerTimeout = 30 * time.Second
