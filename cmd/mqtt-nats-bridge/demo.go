package main

import (
	"context"
	"errors"
	"time"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/demo"
)

// demoCommand runs the whole pipeline on this machine, without any setup.
type demoCommand struct {
	For     time.Duration `placeholder:"10s" help:"Duration of the demo; default: until Ctrl-C."`
	Plain   bool          `help:"Print a line per second, even on a terminal."`
	Devices int           `default:"30" help:"Number of well-behaved devices (minimum 3); five misbehaving ones are added."`
	Rate    float64       `default:"5" help:"Messages per second of each well-behaved device."`

	Ingest      bool   `help:"Also run ingest, which writes the streams to an existing PostgreSQL."`
	DatabaseURL string `name:"database-url" placeholder:"URL" env:"DATABASE_URL" help:"With --ingest: the database, postgres://user@host:port/name. The demo uses a temporary schema."`
}

// Help returns the text of --help beyond the flags.
func (demoCommand) Help() string {
	return `Starts an MQTT broker, a nats-server with JetStream and the bridge in this process, on free ports of 127.0.0.1, and a fleet of devices with individual certificates. Five of them misbehave in different ways, and their messages go to quarantine. It needs no configuration, leaves nothing behind and prints commands to try while it runs.

The exit code is 0 only if every message is accounted for: the acknowledgements of the devices, the counts of the bridge and the contents of the streams agree; with --ingest, also the rows of the database.

Example: mqtt-nats-bridge demo --for 10s`
}

// Run implements the command.
func (c *demoCommand) Run(ctx context.Context, p *program) error {
	database := ""
	if c.Ingest {
		if database = c.DatabaseURL; database == "" {
			return cli.UsageError{Err: errors.New("demo --ingest needs a database: set --database-url postgres://user@host:port/name or DATABASE_URL")}
		}
	}
	return demo.Run(ctx, demo.Options{
		Out: p.Out, For: c.For, Plain: c.Plain, Devices: c.Devices, Rate: c.Rate,
		Version: p.Build.Version, DatabaseURL: database,
	})
}
