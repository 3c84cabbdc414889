package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/streams"
)

// streamsCommand manages streams and consumers as configured.
type streamsCommand struct {
	Plan  streamsPlan  `cmd:"" help:"Diff the configured streams against the existing ones."`
	Apply streamsApply `cmd:"" help:"Create and change streams to match the configuration."`
}

// Help returns the text of --help beyond the flags.
func (streamsCommand) Help() string {
	return `At start the bridge creates missing streams and changes nothing that exists. These two commands diff and change streams and their consumers. They need a NATS user with the permissions, like the operator in nats.conf:

    mqtt-nats-bridge streams apply --set nats.user=operator --set nats.password_file=operator.txt --set nats.inbox_prefix=_INBOX`
}

type streamsPlan struct {
	cli.Output
}

// Help returns the text of --help beyond the flags.
func (streamsPlan) Help() string {
	return `Prints each stream and consumer, marked + to create, ~ to change, ! in conflict, or = as declared. A field marked ! prevents the bridge from starting. Nothing is changed.

The exit code is 0 if everything is as declared, 1 if something differs or could not be compared.

Example: mqtt-nats-bridge streams plan -c bridge.yaml`
}

// Run implements the command.
func (s streamsPlan) Run(ctx context.Context, p *program) error {
	c, plan, err := compile(p)
	if err != nil {
		return err
	}
	t, err := openStreams(c, plan)
	if err != nil {
		return err
	}
	defer t.close()
	d, err := t.difference(ctx)
	if err != nil {
		return err
	}
	if s.JSON() {
		err = cli.PrintJSON(p.Out, planned(d))
	} else {
		_, err = fmt.Fprint(p.Out, d)
	}
	if err != nil {
		return err
	}
	if !d.Empty() {
		return cli.ErrReported
	}
	return nil
}

type streamsApply struct {
	Yes bool `short:"y" help:"Do not ask."`
}

// Help returns the text of --help beyond the flags.
func (streamsApply) Help() string {
	return `Prints the difference as streams plan does, asks for confirmation and applies it. Lowered limits discard messages immediately. If a difference cannot be applied to an existing stream, it is reported and nothing is changed. Without a terminal, --yes is required.

Example: mqtt-nats-bridge streams apply -c bridge.yaml`
}

// Run implements the command.
func (a *streamsApply) Run(ctx context.Context, p *program) error {
	if !a.Yes && !cli.IsTerminal(p.In) {
		return cli.UsageError{Err: errors.New("streams apply: no terminal to ask for confirmation; check streams plan, then set --yes")}
	}
	c, plan, err := compile(p)
	if err != nil {
		return err
	}
	if c.Streams.Manage == config.ManageOff {
		errs := &config.Errors{}
		errs.Add(c.ErrorAt("streams.manage", "is off: the streams are externally managed; set it to create or verify to apply them"))
		return errs
	}
	t, err := openStreams(c, plan)
	if err != nil {
		return err
	}
	defer t.close()
	d, err := t.difference(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(p.Out, d)
	if d.Empty() {
		return nil
	}
	if !a.Yes {
		if err := confirm(ctx, p, "Apply?", "nothing was changed"); err != nil {
			return err
		}
	}
	return t.apply(ctx, p)
}

// streamsTask is a connection and the plan to compare or apply.
type streamsTask struct {
	plan  *plan.Plan
	js    natsjs.JetStream
	close func()
}

func openStreams(c *config.Config, plan *plan.Plan) (*streamsTask, error) {
	options, err := account.Options(c.NATS.Account, c.MQTT.ClientID+"-streams").Resolve()
	if err != nil {
		return nil, err
	}
	nc, err := account.Dial(options)
	if err != nil {
		return nil, err
	}
	js, err := options.JetStream(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &streamsTask{plan: plan, js: js, close: nc.Close}, nil
}

// streamsTimeout bounds a comparison, and an apply.
const streamsTimeout = 30 * time.Second

func (t *streamsTask) difference(ctx context.Context) (*streams.Difference, error) {
	ctx, cancel := context.WithTimeout(ctx, streamsTimeout)
	defer cancel()
	d, err := streams.Plan(ctx, t.js, t.plan.Streams, t.plan.Consumers)
	if err != nil {
		return nil, fmt.Errorf("compare the streams: %w", err)
	}
	return d, nil
}

// planItem is the difference of a stream or a consumer, as JSON.
type planItem struct {
	Stream   string      `json:"stream"`
	Consumer string      `json:"consumer,omitempty"`
	State    string      `json:"state"` // missing, equal, differs or conflict
	Fields   []planField `json:"fields,omitempty"`
	Owners   []planOwner `json:"subject_owners,omitempty"`
}

type planField struct {
	Name     string `json:"name"`
	Is       string `json:"is"`
	Want     string `json:"want"`
	Conflict bool   `json:"conflict"` // it prevents the start of the bridge
}

// planOwner is another stream that stores a subject.
type planOwner struct {
	Subject string `json:"subject"`
	Stream  string `json:"stream"`
}

// planned converts the difference for JSON.
func planned(d *streams.Difference) []planItem {
	item := func(stream, consumer string, state streams.State, fields []streams.Field) planItem {
		i := planItem{Stream: stream, Consumer: consumer, State: "differs"}
		switch state {
		case streams.Missing:
			i.State = "missing"
		case streams.Equal:
			i.State = "equal"
		}
		for _, f := range fields {
			i.Fields = append(i.Fields, planField{f.Name, f.Is, f.Want, f.Contradicts})
			if f.Contradicts {
				i.State = "conflict"
			}
		}
		return i
	}
	items := []planItem{}
	for _, s := range d.Streams {
		i := item(s.Spec.Name, "", s.State, s.Fields)
		for _, h := range s.Owners {
			i.Owners, i.State = append(i.Owners, planOwner(h)), "conflict"
		}
		items = append(items, i)
	}
	for _, c := range d.Consumers {
		items = append(items, item(c.Spec.Stream, c.Spec.Name, c.State, c.Fields))
	}
	return items
}

func (t *streamsTask) apply(ctx context.Context, p *program) error {
	ctx, cancel := context.WithTimeout(ctx, streamsTimeout)
	defer cancel()
	report, err := streams.Manage(ctx, t.js, streams.ManageApply, t.plan.Streams, t.plan.Consumers)
	if report != nil {
		// Print them even after an error: earlier changes remain.
		for _, name := range report.Created {
			fmt.Fprintln(p.Out, "created", name)
		}
		for _, name := range report.Updated {
			fmt.Fprintln(p.Out, "updated", name)
		}
	}
	if err != nil {
		return advice.Append(fmt.Errorf("apply the streams: %w", advice.Streams(err)))
	}
	return nil
}

// confirm asks on the terminal. Any answer except y and yes means no: confirm prints declined and
// returns an error.
func confirm(ctx context.Context, p *program, question, declined string) error {
	fmt.Fprintf(p.Out, "\n%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		// After a signal, this read stays blocked until the process ends.
		text, _ := bufio.NewReader(p.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(text))
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
		fmt.Fprintln(p.Out, declined)
		return cli.ErrReported
	}
}
