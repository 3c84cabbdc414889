package main

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/ingest"
)

// runCommand is the daemon.
type runCommand struct{}

// Help is what --help says beyond the flags.
func (runCommand) Help() string {
	return `Makes or updates its tables (unless database.migrate is false), then pulls from the durable consumers that the bridge makes, stores each batch in one transaction and only then acknowledges it. A database or a NATS server that is away is no failure: ingest logs it, acknowledges nothing, is not ready (see /readyz) and goes on by itself.

On a terminal, a line shows how far it is behind and how long it will take to catch up.

The first SIGTERM or SIGINT stops it in order: what is being stored is stored and acknowledged, for at most stop_timeout; what is left is delivered again. A second signal ends it at once.

Examples:

    ingest --config ingest.yaml

    DATABASE_URL=postgres://ingest:secret@postgres/telemetry NATS_URL=nats://nats:4222 ingest`
}

// Run implements the command.
func (runCommand) Run(ctx context.Context, p *program) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	progress := ingest.NewProgress(p.err, cli.IsTerminal(p.err))
	log, err := cli.NewLogger(p.err, c.Log)
	if err != nil {
		return err
	}
	log = progress.Before(log)
	build := readBuild()
	log.Info().Str("version", build.Version).Str("revision", build.Revision).
		Str("database", c.Database.URL.String()).Str("nats", c.NATS.URL.String()).Msg("starting")
	i, err := ingest.Start(ingest.Options{Config: c, Log: log, Version: build.Version})
	if err != nil {
		return err
	}
	if c.Admin.Listen != "" {
		server, err := endpoint.Start(c.Admin.Listen, i, log)
		if err != nil {
			i.Stop()
			return fmt.Errorf("%w: set admin.listen to a free address, or to nothing", err)
		}
		// Last: until then /livez and /readyz say how the stop goes.
		defer server.Close()
	}
	err = progress.Show(ctx, i)
	cause := err
	if err == nil {
		cause = context.Cause(ctx)
	}
	log.Info().Str("cause", cause.Error()).Msg("stopping; a second signal ends at once")
	i.Stop()
	log.Info().Msg("stopped")
	return err
}
