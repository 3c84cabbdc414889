package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/quarantine"
)

// quarantineFilter selects messages in quarantine.
type quarantineFilter struct {
	Reason []string `placeholder:"REASON" help:"Only messages rejected for this reason, like rate_limited; may be repeated."`
	Since  string   `placeholder:"TIME" help:"Only messages quarantined since then: 1h, 7d, or 2026-11-23T12:00:00Z."`
	Until  string   `placeholder:"TIME" help:"Only messages quarantined until then, in the same format."`
	Tenant string   `placeholder:"TENANT" help:"Only messages of this tenant."`
	Device string   `placeholder:"DEVICE" help:"Only messages of this device, of any tenant unless --tenant is given."`
}

func (c *quarantineFilter) filter(now time.Time) (f quarantine.Filter, err error) {
	f.Tenant, f.Device = c.Tenant, c.Device
	if f.Reasons, err = parseReasons(c.Reason); err != nil {
		return f, err
	}
	if f.Since, err = moment("--since", c.Since, now); err != nil {
		return f, err
	}
	if f.Until, err = moment("--until", c.Until, now); err != nil {
		return f, err
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return f, errors.New("--until is before --since")
	}
	return f, nil
}

func parseReasons(tokens []string) (all []verdict.Reason, err error) {
	for _, token := range tokens {
		i := slices.IndexFunc(verdict.Reasons(), func(r verdict.Reason) bool { return r.String() == token })
		if i < 0 {
			return nil, fmt.Errorf("--reason %s: unknown reason, expected one of %s", token, reasonList())
		}
		all = append(all, verdict.Reasons()[i])
	}
	return all, nil
}

// quarantineLs lists messages.
type quarantineLs struct {
	quarantineFilter
	Limit int `short:"n" default:"20" help:"Maximum number of messages, the newest first."`
	cli.Output
}

// Help returns the text of --help beyond the flags.
func (c quarantineLs) Help() string {
	return `Lists rejected messages, the newest first, with reason, device and details. Nothing is changed. It reads the quarantine stream through a temporary consumer, so the NATS user needs permission for $JS.API.CONSUMER.CREATE and .DELETE, like the operator in nats.conf.

Example: ` + c.Example()
}

func (quarantineLs) Example() string {
	return "mqtt-nats-bridge quarantine ls --reason rate_limited --since 1h -c bridge.yaml"
}

// Run implements the command.
func (c *quarantineLs) Run(ctx context.Context, p *program) error {
	f, err := c.filter(time.Now())
	if err == nil && c.Limit < 1 {
		err = errors.New("--limit must be 1 or more")
	}
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("quarantine ls: %w\nExample: %s", err, c.Example())}
	}
	return readQuarantine(ctx, p, func(ctx context.Context, r *quarantine.Reader) error {
		messages, err := r.List(ctx, f, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON() {
			return cli.PrintJSON(p.Out, messages)
		}
		return quarantine.PrintList(p.Out, messages)
	})
}

// quarantineShow shows one message.
type quarantineShow struct {
	Sequence uint64 `arg:"" help:"Sequence of the message in the quarantine stream, as quarantine ls prints it."`
	Payload  bool   `help:"Write only the payload, unchanged."`
	cli.Output
}

// Help returns the text of --help beyond the flags.
func (c quarantineShow) Help() string {
	return `Prints one rejected message: reason, device, topic, the certificate's CN and the payload, as text or as a hex dump. In JSON the payload is in base64.

Example: ` + c.Example()
}

func (quarantineShow) Example() string { return "mqtt-nats-bridge quarantine show 17 -c bridge.yaml" }

// Run implements the command.
func (c *quarantineShow) Run(ctx context.Context, p *program) error {
	return readQuarantine(ctx, p, func(ctx context.Context, r *quarantine.Reader) error {
		m, err := r.Get(ctx, c.Sequence)
		switch {
		case err != nil:
			return err
		case c.Payload:
			_, err := p.Out.Write(m.Payload)
			return err
		case c.JSON():
			return cli.PrintJSON(p.Out, m)
		}
		file := p.Settings.Config
		if file == "-" { // standard input
			file = "bridge.yaml"
		}
		return m.Print(p.Out, file)
	})
}

// quarantineStats counts messages.
type quarantineStats struct {
	quarantineFilter
	Top int `default:"20" help:"List this many devices, those with the most messages first."`
	cli.Output
}

// Help returns the text of --help beyond the flags.
func (c quarantineStats) Help() string {
	return `Counts rejected messages by reason and by device. It reads the headers of all selected messages; --reason and --since reduce their number. Nothing is changed. It needs the permissions of quarantine ls.

Example: ` + c.Example()
}

func (quarantineStats) Example() string {
	return "mqtt-nats-bridge quarantine stats --since 1d -c bridge.yaml"
}

// Run implements the command.
func (c *quarantineStats) Run(ctx context.Context, p *program) error {
	f, err := c.filter(time.Now())
	if err == nil && c.Top < 0 {
		err = errors.New("--top must be 0 or more")
	}
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("quarantine stats: %w\nExample: %s", err, c.Example())}
	}
	return readQuarantine(ctx, p, func(ctx context.Context, r *quarantine.Reader) error {
		stats, err := r.Stats(ctx, f, c.Top)
		if err != nil {
			return err
		}
		if c.JSON() {
			return cli.PrintJSON(p.Out, stats)
		}
		return stats.Print(p.Out)
	})
}

// readQuarantine connects to NATS and calls f with a reader of the quarantine stream.
func readQuarantine(ctx context.Context, p *program, f func(context.Context, *quarantine.Reader) error) error {
	conf, plan, err := compile(p)
	if err != nil {
		return err
	}
	ctx, js, done, err := dialQuarantine(ctx, conf, "-quarantine")
	if err != nil {
		return err
	}
	defer done()
	err = f(ctx, &quarantine.Reader{JetStream: js, Stream: conf.Streams.Quarantine.Name, Rules: plan.Rules})
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return fmt.Errorf("%w: streams.quarantine.name must be the stream that the bridge writes to", err)
	}
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w\nUse a NATS user with permission to read the quarantine stream, like the operator in nats.conf: --set nats.user=operator --set nats.password_file=FILE", cause)
	}
	return err
}
