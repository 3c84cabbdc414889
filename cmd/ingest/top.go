package main

import (
	"context"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/top"
)

// topCommand is the page of the admin endpoint on a terminal.
type topCommand struct{ top.Command }

// Help is what --help says beyond the flags.
func (topCommand) Help() string {
	return `Shows what the page of the admin endpoint shows, and refreshes it every 2 seconds; q or Ctrl-C ends it. When ingest does not answer, it says so and keeps trying. Where input or output is no terminal it prints the view once; the exit code is 1 if there was no answer. NO_COLOR=1 turns colours off.

Example: ingest top --admin 127.0.0.1:9465`
}

// Run implements the command.
func (t *topCommand) Run(ctx context.Context, p *program) error {
	listen := func() (string, error) {
		c, err := p.load()
		if err != nil {
			return "", err
		}
		if c.Admin.Listen == "" {
			errs := &config.Errors{}
			errs.Add(c.ErrorAt("admin.listen", "is empty, so there is nothing to ask; write an address like 127.0.0.1:9465"))
			return "", errs
		}
		return c.Admin.Listen, nil
	}
	return t.Show(ctx, listen, p.in, p.out)
}
