package streams

import (
	"context"
	"errors"
	"fmt"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// ManageMode determines what the bridge may do to streams and consumers.
type ManageMode string

const (
	// ManageCreate creates missing streams and consumers and changes nothing that exists.
	ManageCreate ManageMode = "create"
	// ManageVerify changes nothing. A missing stream is an error.
	ManageVerify ManageMode = "verify"
	// ManageApply also changes existing streams and consumers to match their specs.
	ManageApply ManageMode = "apply"
	// ManageOff creates, changes and requires nothing. It only reads the existing streams, to
	// report settings that can lose messages.
	ManageOff ManageMode = "off"
)

// Report describes what Manage found and did.
type Report struct {
	// Difference is the state before any change. In [ManageOff] it contains only streams.
	Difference *Difference
	// Created and Updated contain "stream NAME" and "consumer STREAM/NAME".
	Created, Updated []string
	// Notes are sentences about what was not changed, such as a limit that differs, or a consumer
	// that is missing in [ManageVerify].
	Notes []string
}

// Manage applies the mode to streams and consumers. It requires an established connection. Two
// bridges may create the same streams concurrently. On an error, the report contains what was done
// before.
//
// In addition to the requests of [Plan] it uses $JS.API.STREAM.CREATE.<stream>,
// $JS.API.CONSUMER.CREATE.<stream>.<consumer>[.<filter>] and, under apply,
// $JS.API.STREAM.UPDATE.<stream>. In [ManageOff] it uses only $JS.API.STREAM.INFO.<stream>; its
// [ErrContradiction] then lists settings that can lose messages.
func Manage(ctx context.Context, js natsjs.JetStream, mode ManageMode, streams []Spec, consumers []ConsumerSpec) (*Report, error) {
	if mode == ManageOff {
		d, err := Read(ctx, js, streams)
		if err != nil {
			return &Report{}, err
		}
		return &Report{Difference: d, Notes: d.notes(mode)}, d.contradictions(mode)
	}
	report := &Report{}
	// Another bridge may create a stream between our plan and our change. That stream is then
	// compared like any other.
	for attempt := 0; ; attempt++ {
		d, err := Plan(ctx, js, streams, consumers)
		if err != nil {
			return report, err
		}
		if report.Difference == nil {
			report.Difference = d
		}
		if err := d.contradictions(mode); err != nil {
			return report, err
		}
		err = report.apply(ctx, js, mode, d)
		if err == nil {
			report.Notes = d.notes(mode)
			return report, nil
		}
		if !isRace(err) || attempt == 2 {
			return report, err
		}
	}
}

// apply creates missing objects and, under apply, updates existing ones. It stops at the first
// error.
func (r *Report) apply(ctx context.Context, js natsjs.JetStream, mode ManageMode, d *Difference) error {
	if mode == ManageVerify {
		return nil
	}
	for _, s := range d.Streams {
		name := s.Spec.Name
		switch {
		case s.State == Missing:
			if _, err := js.CreateStream(ctx, s.Spec.config()); err != nil {
				return fmt.Errorf("create stream %s: %w", name, conn.Explain(err, conn.APISubject(js, "STREAM.CREATE."+name)))
			}
			r.Created = append(r.Created, "stream "+name)
		case s.State == Differs && mode == ManageApply:
			cfg := s.is
			s.Spec.applyTo(&cfg)
			if _, err := js.UpdateStream(ctx, cfg); err != nil {
				return fmt.Errorf("update stream %s: %w", name, conn.Explain(err, conn.APISubject(js, "STREAM.UPDATE."+name)))
			}
			r.Updated = append(r.Updated, "stream "+name)
		}
	}
	for _, c := range d.Consumers {
		api := conn.APISubject(js, "CONSUMER.CREATE."+c.Spec.Stream+"."+c.Spec.Name)
		switch {
		case c.State == Missing:
			if _, err := js.CreateConsumer(ctx, c.Spec.Stream, c.Spec.config()); err != nil {
				return fmt.Errorf("create consumer %s: %w", c.Spec.key(), conn.Explain(err, api))
			}
			r.Created = append(r.Created, "consumer "+c.Spec.key())
		case c.State == Differs && mode == ManageApply:
			cfg := c.is
			c.Spec.applyTo(&cfg)
			if _, err := js.UpdateConsumer(ctx, c.Spec.Stream, cfg); err != nil {
				return fmt.Errorf("update consumer %s: %w", c.Spec.key(), conn.Explain(err, api))
			}
			r.Updated = append(r.Updated, "consumer "+c.Spec.key())
		}
	}
	return nil
}

// isRace reports whether another client has created the object first, with a different
// configuration. The same configuration is not an error to nats-server.
func isRace(err error) bool {
	api, ok := errors.AsType[*natsjs.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case natsjs.JSErrCodeStreamNameInUse,
		natsjs.JSErrCodeConsumerNameExists, natsjs.JSErrCodeConsumerAlreadyExists, natsjs.JSErrCodeConsumerExists,
		10065: // subjects overlap: the next plan names the owner
		return true
	}
	return false
}

func (d *Difference) notes(mode ManageMode) []string {
	if mode == ManageApply {
		return nil
	}
	var notes []string
	addUnchanged := func(what string, fields []Field) {
		for _, f := range fields {
			if mode == ManageOff && f.Contradicts && f.Name != "subjects" {
				continue // reported as an error
			}
			notes = append(notes, fmt.Sprintf("%s: %s is %s, configured is %s; not changed", what, f.Name, f.Is, f.Want))
		}
	}
	for _, s := range d.Streams {
		addUnchanged("stream "+s.Spec.Name, s.Fields)
	}
	for _, c := range d.Consumers {
		if c.State == Missing && mode == ManageVerify {
			// The bridge can store messages without the consumer, so it may start.
			notes = append(notes, fmt.Sprintf("consumer %s: does not exist", c.Spec.key()))
		}
		addUnchanged("consumer "+c.Spec.key(), c.Fields)
	}
	return notes
}

// NeedsPermission reports whether [Manage] needs the permission, either to send requests about
// streams and consumers or to receive the answers.
func NeedsPermission(denied *conn.PermissionError) bool {
	if denied.Operation == "subscribe to" {
		return true // an inbox
	}
	s := denied.Subject
	return strings.HasPrefix(s, "$JS.") && !strings.Contains(s, ".KV_") &&
		(strings.Contains(s, ".API.STREAM.") || strings.Contains(s, ".API.CONSUMER."))
}
