package main

import (
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
)

// reload reads file, environment and flags again, as at the start, and applies what may change
// while the bridge runs.
func (p *program) reload(b *daemon.Bridge, log zerolog.Logger) {
	cli.Reload(log, p.load, func(c *config.Config) (changed, restart []string, err error) {
		if changed, restart, err = b.Reload(c); err == nil {
			err = cli.SetLevel(c.Log)
		}
		return changed, restart, err
	})
}
