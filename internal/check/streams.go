package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

// streams compares the streams with the configuration, like the bridge at start, but changes
// nothing. It returns the streams that the bridge would create. ok is false if JetStream does not
// answer.
func (n *natsCheck) streams(ctx context.Context) (missing []streams.Spec, ok bool) {
	if n.config.Streams.Manage == config.ManageOff {
		return nil, n.unmanaged(ctx)
	}
	d, err := ask(ctx, n, func(ctx context.Context) (*streams.Difference, error) {
		return streams.Plan(ctx, n.js, n.plan.Streams, n.plan.Consumers)
	})
	if err != nil {
		n.report.Fail("streams", "%v: %s", err, cmp.Or(advice.For(err), "enable JetStream, or see the server's log"))
		return nil, refused(err)
	}
	create := n.config.Streams.Manage == config.ManageCreate
	var present []streams.Spec
	for _, s := range d.Streams {
		if s.State == streams.Missing && create {
			n.report.Note("stream "+s.Spec.Name, "does not exist yet, the bridge creates it at start")
			missing = append(missing, s.Spec)
			continue
		}
		present = append(present, s.Spec)
	}
	n.contradictions(ctx, d, present)
	for _, s := range present {
		n.room(ctx, s)
	}
	return missing, true
}

// unmanaged reports settings of externally managed streams that can lose messages. It only reads
// the streams, and the user may lack the permission. ok is false if JetStream does not answer.
func (n *natsCheck) unmanaged(ctx context.Context) (ok bool) {
	n.report.Note("streams", "streams.manage is off: they are only read and written to")
	report, err := ask(ctx, n, func(ctx context.Context) (*streams.Report, error) {
		return streams.Manage(ctx, n.js, streams.ManageOff, n.plan.Streams, nil)
	})
	switch {
	case refused(err):
		n.report.Note("streams", "cannot be read, so their settings could not be checked: %v", advice.Append(err))
		return true
	case report.Difference == nil:
		n.report.Fail("streams", "%v: enable JetStream, or see the server's log", err)
		return false
	}
	n.failures(err)
	for _, note := range report.Notes {
		n.report.Note("streams", "%s", note)
	}
	for _, s := range report.Difference.Streams {
		if s.State != streams.Missing {
			n.room(ctx, s.Spec)
		}
	}
	return true
}

// failures reports an error of [streams.Manage].
func (n *natsCheck) failures(err error) {
	var all streams.Contradictions
	switch {
	case errors.As(advice.Streams(err), &all):
		for _, c := range all {
			n.report.Fail("streams", "%v", c)
		}
	case err != nil:
		n.report.Fail("streams", "%v", err)
	}
}

// contradictions reports the conflicts that prevent the start, and other differences.
func (n *natsCheck) contradictions(ctx context.Context, d *streams.Difference, present []streams.Spec) {
	_, err := ask(ctx, n, func(ctx context.Context) (*streams.Report, error) {
		return streams.Manage(ctx, n.js, streams.ManageVerify, present, n.plan.Consumers)
	})
	n.failures(err)
	for _, s := range d.Streams {
		if s.State == streams.Equal {
			n.report.OK("stream "+s.Spec.Name, "as declared, takes %s", strings.Join(s.Spec.Subjects, " "))
		}
		for _, f := range s.Fields {
			if !f.Contradicts && !f.Fixed {
				n.report.Note("stream "+s.Spec.Name, "%s is %s, configured is %s; the bridge does not change it", f.Name, f.Is, f.Want)
			}
		}
	}
	for _, c := range d.Consumers {
		switch {
		case c.State == streams.Differs:
			for _, f := range c.Fields {
				if f.Contradicts {
					continue // reported above
				}
				n.report.Note("consumer "+c.Spec.Name, "of stream %s: %s is %s, configured is %s", c.Spec.Stream, f.Name, f.Is, f.Want)
			}
		case c.State == streams.Missing && n.config.Streams.Manage == config.ManageVerify:
			n.report.Note("consumer "+c.Spec.Name, "of stream %s does not exist: run mqtt-nats-bridge streams apply", c.Spec.Stream)
		}
	}
}

// room checks that a stream can store a message of the largest size, and that it is not full if it
// discards new messages.
func (n *natsCheck) room(ctx context.Context, spec streams.Spec) {
	info, err := n.stream(ctx, spec.Name)
	if err != nil {
		return // reported by the comparison
	}
	limits, state := info.Config, info.State
	if want := int64(n.config.Limits.Payload); limits.MaxMsgSize >= 0 && int64(limits.MaxMsgSize) < want+headerAllowance {
		n.report.Fail("stream "+spec.Name, "max_msg_size is %s, below limits.payload (%s) and headers: raise it with nats stream edit, or lower limits.payload",
			config.Bytes(limits.MaxMsgSize), config.Bytes(want))
	}
	full := limits.MaxBytes > 0 && state.Bytes >= uint64(limits.MaxBytes) || limits.MaxMsgs > 0 && state.Msgs >= uint64(limits.MaxMsgs)
	if full && limits.Discard == natsjs.DiscardNew {
		n.report.Fail("stream "+spec.Name, "is full (%d messages, %s) and discards new ones: raise its limits, free space, or set discard to old", state.Msgs, size(state.Bytes))
	}
}

// mayCreate checks that the bridge may create a stream. The probe is an empty configuration, whose
// name does not match the subject of the request, so nats-server refuses it without any effect.
func (n *natsCheck) mayCreate(ctx context.Context, what, stream string) {
	_, err := n.request(ctx, &nats.Msg{Subject: n.api + ".STREAM.CREATE." + stream, Data: []byte("{}")})
	switch {
	case refused(err):
		n.report.Fail(what, "the bridge cannot create it: %v", advice.Append(err))
	case err != nil:
		n.report.Note(what, "could not determine whether the bridge may create it: %v", err)
	}
}

// lookups checks the permission for look-ups, which find messages after the duplicate window.
func (n *natsCheck) lookups(ctx context.Context) {
	for _, s := range n.plan.Streams {
		subject := publish.LookupSubject(n.api, s.Name)
		_, err := n.request(ctx, &nats.Msg{Subject: subject, Data: []byte(`{"seq":1}`)})
		switch {
		case refused(err):
			n.report.Note("stream "+s.Name, "look-ups are not permitted, so messages can be stored twice after an outage longer than the duplicate window: allow publishing to %s, see nats.conf", subject)
		case err != nil:
			n.report.Note("stream "+s.Name, "could not determine whether look-ups are permitted: %v", err)
		}
	}
}

// publish checks for each kind of subject that the user may publish to it, and which stream stores
// it.
func (n *natsCheck) publish(ctx context.Context) {
	ours := n.config.Streams.Manage != config.ManageOff
	for i, t := range n.config.Topics {
		subject := probeSubject(n.plan.Rules.Topics.Route(i).Template.StreamSubject())
		n.probe(ctx, subject, ours && t.Stream != config.NoStream)
	}
	if n.config.Quarantine.Store {
		n.probe(ctx, bridge.QuarantineSubject+".check", ours)
	}
}

// probeSubject returns a subject that matches the filter.
func probeSubject(filter string) string {
	tokens := strings.Split(filter, ".")
	for i, t := range tokens {
		if t == "*" || t == ">" {
			tokens[i] = "check"
		}
	}
	return strings.Join(tokens, ".")
}

// impossibleStream cannot be a stream's name: it contains a dot.
const impossibleStream = "mqtt-nats-bridge.check"

// expectedStreamMismatch is JetStream's answer to a message for another stream.
const expectedStreamMismatch = 10060

// probe publishes an empty message that no stream can store. nats-server checks
// Nats-Expected-Stream before it stores or proposes a message (2.15.2: stream.go,
// jetstream_batching.go), and its refusal names the stream.
func (n *natsCheck) probe(ctx context.Context, subject string, own bool) {
	const what = "nats publish"
	want := n.plan.StreamOf(subject)
	answer, err := n.request(ctx, &nats.Msg{
		Subject: subject, Header: nats.Header{natsjs.ExpectedStreamHeader: {impossibleStream}},
	})
	switch {
	case refused(err):
		n.report.Fail(what, "%s is refused: %v", subject, advice.Append(err))
		return
	case errors.Is(err, nats.ErrNoResponders) && own && n.config.Streams.Manage == config.ManageCreate:
		n.report.OK(what, "%s is allowed, stream %s is created at start", subject, want)
		return
	case errors.Is(err, nats.ErrNoResponders):
		n.report.Fail(what, "%s is allowed, but no stream has this subject: create a stream with it, and make sure that JetStream is enabled", subject)
		return
	case err != nil:
		n.report.Fail(what, "%s: %v: see the server's log; the user may lack the permission, or the stream may have no leader", subject, err)
		return
	}
	stream, err := streamFrom(answer.Data)
	switch {
	case err != nil:
		n.report.Note(what, "%s: %v", subject, err)
	case own && stream != want:
		n.report.Fail(what, "%s goes to stream %s, configured is %s: compare with mqtt-nats-bridge streams plan", subject, stream, want)
	default:
		n.report.OK(what, "%s is allowed and goes to stream %s (nothing was stored)", subject, stream)
	}
}

// streamFrom reads the name of the stream from its refusal.
func streamFrom(answer []byte) (string, error) {
	var ack struct {
		Stream string            `json:"stream"`
		Error  *publish.APIError `json:"error"`
	}
	switch err := json.Unmarshal(answer, &ack); {
	case err != nil || ack.Stream == "":
		return "", errors.New("the answer is not from JetStream")
	case ack.Error == nil:
		return "", fmt.Errorf("stream %s stored the probe, an empty message: its server does not know Nats-Expected-Stream", ack.Stream)
	case ack.Error.ErrCode != expectedStreamMismatch:
		return "", fmt.Errorf("stream %s answers: %w", ack.Stream, ack.Error)
	}
	return ack.Stream, nil
}
