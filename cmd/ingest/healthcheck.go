package main

import (
	"context"
	"time"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
)

// healthcheckCommand is for containers without a shell.
type healthcheckCommand struct {
	Timeout time.Duration `default:"3s" help:"Timeout of the request."`
}

// Help returns the text of --help beyond the flags.
func (healthcheckCommand) Help() string {
	return `Requests /readyz of the ingest on this machine, at admin.listen of the configuration. The exit code is 0 if it is ready; otherwise it prints the reasons and the exit code is 1.

Example, in a Dockerfile: HEALTHCHECK CMD ["/ingest", "healthcheck"]`
}

// Run implements the command.
func (h *healthcheckCommand) Run(ctx context.Context, p *program) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	if c.Admin.Listen == "" {
		errs := &config.Errors{}
		errs.Add(c.ErrorAt("admin.listen", "is empty, so there is no endpoint; write an address like 127.0.0.1:9465"))
		return errs
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	return endpoint.Healthcheck(ctx, programName, c.Admin.Listen)
}
