package main

import (
	"context"
	"os"
	"sync"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/ingest"
)

// runCommand is the daemon.
type runCommand struct{}

// Help returns the text of --help beyond the flags.
func (runCommand) Help() string {
	return `Migrates its tables (unless database.migrate is false), then pulls from the durable consumers that the bridge creates. Each batch is stored in one transaction and only then acknowledged. If the database or NATS is unreachable, ingest logs it, acknowledges nothing, is not ready (see /readyz) and keeps retrying.

SIGHUP reads file, environment and flags again: the log level changes immediately; other changes are logged and need a restart. An invalid configuration changes nothing. Secrets and certificates in files need no reload and no restart: they are read at each connect.

On a terminal, a status line shows the lag and the estimated time to catch up.

The first SIGTERM or SIGINT stops ingest gracefully: batches in progress are stored and acknowledged, for at most stop_timeout; the rest is redelivered. A second signal terminates it immediately.

Examples:

    ingest --config ingest.yaml

    DATABASE_URL=postgres://ingest:secret@postgres/telemetry NATS_URL=nats://nats:4222 ingest`
}

// Run implements the command.
func (runCommand) Run(ctx context.Context, p *program) error {
	again, stop := cli.Hangups()
	defer stop()
	c, err := p.Load()
	if err != nil {
		return err
	}
	progress := ingest.NewProgress(p.Err, cli.IsTerminal(p.Err))
	log, level, err := cli.NewLogger(p.Err, c.Log)
	if err != nil {
		return err
	}
	log = progress.Before(log)
	log.Info().Str("version", p.Build.Version).Str("revision", p.Build.Commit).
		Str("database", c.Database.URL.String()).Str("nats", c.NATS.URL.String()).Msg("starting")
	s := service{program: p, log: log, level: level, again: again}
	return cli.Failed(log, s.serve(ctx, c, progress))
}

// service is one run of the daemon.
type service struct {
	*program
	log   zerolog.Logger
	level *cli.Level       // of log
	again <-chan os.Signal // SIGHUP: reload
}

// serve runs ingest until ctx ends or it fails.
func (s *service) serve(ctx context.Context, c *config.Ingest, progress *ingest.Progress) error {
	// Listen first: if this fails, ingest must not migrate tables or pull messages.
	listener, err := endpoint.Listen(c.Admin.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	i, err := ingest.Open(ingest.Options{Config: c, Log: s.log, Version: s.Build.Version})
	if err != nil {
		return err
	}
	server := listener.Serve(i, s.log)
	// Close last: /livez and /readyz report the progress of the shutdown.
	defer server.Close()
	reloading, stop := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { s.reload(reloading, i) })
	err = progress.Show(ctx, i)
	stop()
	reloads.Wait()
	cause := err
	if err == nil {
		cause = context.Cause(ctx)
	}
	s.log.Info().Str("cause", cause.Error()).Msg("stopping, a second signal terminates immediately")
	i.Close()
	s.log.Info().Msg("stopped")
	return err
}

// reload reads file, environment and flags again at each SIGHUP until ctx ends.
func (s *service) reload(ctx context.Context, i *ingest.Ingest) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.again:
			cli.Reload(s.log, s.Load, func(c *config.Ingest) (changed, restart []string, err error) {
				if err := s.level.Set(c.Log); err != nil {
					return nil, nil, err
				}
				changed, restart = i.Reload(c)
				return changed, restart, nil
			})
		}
	}
}
