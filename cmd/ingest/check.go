package main

import (
	"fmt"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/schema"
)

// checkCommand validates the configuration.
type checkCommand struct {
	cli.Output

	All bool `help:"Print every key of the configuration, not only those that differ from the defaults."`
}

// Help returns the text of --help beyond the flags.
func (checkCommand) Help() string {
	return `Prints the keys that differ from their defaults, with their source; with --all, every key. Secrets are not shown. The exit code is 2 if the configuration is invalid.

Example: ingest check -c ingest.yaml`
}

// Run implements the command.
func (c checkCommand) Run(p *program) error {
	conf, err := p.Load()
	if err != nil {
		return err
	}
	settings := conf.Settings()
	if !c.All {
		settings = schema.Changed(settings)
	}
	if c.JSON() {
		return cli.PrintJSON(p.Out, settings)
	}
	fmt.Fprint(p.Out, cli.Changes(settings, c.All))
	return nil
}
