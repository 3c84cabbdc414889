package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/admin"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/endpoint"
)

// runCommand is the daemon.
type runCommand struct{}

// Help returns the text of --help beyond the flags.
func (runCommand) Help() string {
	return `Connects to the broker and to NATS, creates missing streams and moves messages until it gets a signal. If the broker or NATS is unreachable, the bridge logs it, is not ready (see /readyz) and keeps retrying.

SIGHUP reads file, environment and flags again. Limits, quarantine.per_device and the log level change immediately; other changes are logged and need a restart. An invalid configuration changes nothing.

The first SIGTERM or SIGINT stops the bridge gracefully: it accepts no new messages, and stores and acknowledges those in flight, for at most stop_timeout. The broker keeps the rest and redelivers it. A second signal terminates it immediately, with exit code 1.

Examples:

    mqtt-nats-bridge --config bridge.yaml

    mqtt-nats-bridge run --mqtt-url mqtt://emqx:1883 --nats-url nats://nats:4222 --set mqtt.username=bridge --set mqtt.password_file=/run/secrets/mqtt`
}

// Run implements the command.
func (runCommand) Run(ctx context.Context, p *program) error {
	again, stop := cli.Hangups()
	defer stop()
	c, err := p.Load()
	if err != nil {
		return err
	}
	log, level, err := cli.NewLogger(p.Err, c.Log)
	if err != nil {
		return err
	}
	announce(log, c, p.Build)
	s := service{program: p, log: log, level: level, again: again}
	return cli.Failed(log, s.serve(ctx, c))
}

// service is one run of the daemon.
type service struct {
	*program
	log   zerolog.Logger
	level *cli.Level       // of log
	again <-chan os.Signal // SIGHUP: reload
}

func announce(log zerolog.Logger, c *config.Config, build cli.Build) {
	nats := c.NATS.URL.String()
	if c.NATS.Context != "" {
		nats = strings.TrimSpace("context " + c.NATS.Context + " " + nats)
	}
	log.Info().Str("version", build.Version).Str("revision", build.Commit).
		Int("lanes", len(c.ClientIDs())).Str("broker", c.MQTT.URL.String()).Str("nats", nats).
		Str("identity", string(c.Identity.Mode)).Msg("starting")
}

// serve runs the bridge until ctx ends or it fails.
func (s *service) serve(ctx context.Context, c *config.Config) error {
	// Listen first: a second bridge on this host must fail here, before it takes over the sessions
	// of the first.
	listener, err := endpoint.Listen(c.Admin.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	b, err := daemon.Open(ctx, daemon.Options{Config: c, Log: s.log, Version: s.Build.Version})
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return stop(ctx, b, s.log)
	}
	if err != nil {
		return err
	}
	server := listener.Serve(admin.Program(b), s.log)
	// Close last: /livez and /readyz report the progress of the shutdown.
	defer server.Close()
	for {
		select {
		case <-ctx.Done():
			return stop(ctx, b, s.log)
		case err := <-b.Failed():
			return errors.Join(err, stop(ctx, b, s.log))
		case <-s.again:
			cli.Reload(s.log, s.Load, func(c *config.Config) (changed, restart []string, err error) {
				if changed, restart, err = b.Reload(c); err == nil {
					err = s.level.Set(c.Log)
				}
				return changed, restart, err
			})
		}
	}
}

// stop stops the bridge and logs the number of messages that were not stored. That is not a
// failure: the broker keeps them. b is nil if the bridge never ran.
func stop(ctx context.Context, b *daemon.Bridge, log zerolog.Logger) error {
	why := "failure"
	if cause := context.Cause(ctx); cause != nil {
		why = cause.Error()
	}
	if b == nil {
		log.Info().Str("cause", why).Msg("stopped")
		return nil
	}
	log.Info().Str("cause", why).Msg("stopping, a second signal terminates immediately")
	// Close has its own timeout, and ctx has already ended.
	err := b.Close(context.WithoutCancel(ctx))
	switch {
	case errors.Is(err, daemon.ErrAbandoned), errors.Is(err, daemon.ErrNotClosed):
		log.Warn().Str("component", "process").Str("abandoned", err.Error()).Msg("stopped")
		return nil
	case err != nil:
		return err
	}
	log.Info().Msg("shutdown complete, no messages in flight")
	return nil
}
