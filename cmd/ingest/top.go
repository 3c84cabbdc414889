package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/top"
)

// topCommand is the page of the admin endpoint on a terminal.
type topCommand struct {
	Admin string `placeholder:"ADDRESS" help:"The admin endpoint: host:port or a URL. Default: admin.listen."`
}

// Help is what --help says beyond the flags.
func (topCommand) Help() string {
	return `Shows what the page of the admin endpoint shows, and refreshes it every 2 seconds; q or Ctrl-C ends it. When ingest does not answer, it says so and keeps trying. Where input or output is no terminal it prints the view once; the exit code is 1 if there was no answer. NO_COLOR=1 turns colours off.

Example: ingest top --admin 127.0.0.1:9465`
}

// Run implements the command.
func (t *topCommand) Run(ctx context.Context, p *program) error {
	if t.Admin == "" {
		c, err := p.load()
		if err != nil {
			return err
		}
		if c.Admin.Listen == "" {
			errs := &config.Errors{}
			errs.Add(c.ErrorAt("admin.listen", "is empty, so there is nothing to ask; write an address like 127.0.0.1:9465"))
			return errs
		}
		t.Admin = c.Admin.Listen
	}
	base, err := endpoint.URL(t.Admin)
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("top: %w", err)}
	}
	// These too leave the terminal as it was.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	return top.Show(ctx, top.Options{URL: base, In: p.in, Out: p.out, Colour: cli.Colour(p.out)})
}
