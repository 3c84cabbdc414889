package main

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/check"
	"mqtt-nats-bridge/internal/cli"
)

// checkCommand looks before the bridge leaps.
type checkCommand struct {
	Connect bool `help:"Connect to the broker and to NATS too."`
}

// Help is what --help says beyond the flags.
func (checkCommand) Help() string {
	return `Prints the configuration in force with the source of each value, and one line a finding: ok, note (know or verify it), FAIL (with what to do).

With --connect it tries what the bridge will need: address, TLS, credentials and every topic filter at the broker; address, credentials, JetStream, streams, limits, buckets and every publish permission at NATS; the table of certificates in PostgreSQL. It disturbs no bridge that runs: it has a client id and a $share group of its own, and what it publishes no stream can store. Plain subscribers of tenant.> would see a few empty messages.

The exit code is 1 if a check failed, 2 if the configuration is at fault.

Example: mqtt-nats-bridge check --connect -c bridge.yaml`
}

// Run implements the command.
func (c *checkCommand) Run(ctx context.Context, p *program) error {
	conf, plan, err := p.compile()
	if err != nil {
		return err
	}
	fmt.Fprintln(p.out, conf.Redacted())
	report := check.NewReport(p.out)
	check.Local(conf, plan, report)
	if c.Connect {
		check.Broker(ctx, conf, plan, report)
		check.EMQX(ctx, conf, report)
		check.NATS(ctx, conf, plan, report)
		check.Registry(ctx, conf, report)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch n := report.Failed(); n {
	case 0:
		return nil
	case 1:
		fmt.Fprintln(p.out, "\n1 check failed")
	default:
		fmt.Fprintf(p.out, "\n%d checks failed\n", n)
	}
	return cli.ErrSaid
}
