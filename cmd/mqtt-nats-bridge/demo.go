package main

import (
	"context"
	"errors"
	"os"
	"time"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/demo"
)

// demoCommand shows the whole job on this machine, with nothing set up.
type demoCommand struct {
	For     time.Duration `placeholder:"10s" help:"End after this time; without it Ctrl-C ends the demo."`
	Plain   bool          `help:"Print a line per second, even on a terminal."`
	Devices int           `default:"30" help:"Simulated devices that behave, 3 or more; five that do not come on top."`
	Rate    float64       `default:"5" help:"Messages per second of each device that behaves."`

	Ingest      bool   `help:"Add ingest: from the streams into a PostgreSQL that exists."`
	DatabaseURL string `name:"database-url" placeholder:"URL" env:"DATABASE_URL" help:"With --ingest: the database, postgres://user@host:port/name. The demo works in a schema of its own and drops it."`
}

// Help is what --help says beyond the flags.
func (demoCommand) Help() string {
	return `Starts an MQTT broker, a nats-server with JetStream and the bridge between them in this process, on free ports of 127.0.0.1, and a fleet of devices with certificates of their own. Five of them misbehave, each in its way, and end in quarantine. It needs no configuration and leaves nothing behind; it prints commands to try while it runs.

The exit code is 0 only if every message is accounted for: what the devices got acknowledgements for, what the bridge counted and what the streams hold agree; with --ingest, what the database holds too.

Example: mqtt-nats-bridge demo --for 10s`
}

// Run implements the command.
func (c *demoCommand) Run(ctx context.Context) error {
	database := ""
	if c.Ingest {
		if database = c.DatabaseURL; database == "" {
			return cli.UsageError{Err: errors.New("demo --ingest needs a database: give --database-url postgres://user@host:port/name, or set DATABASE_URL")}
		}
	}
	return demo.Run(ctx, demo.Options{
		Out: os.Stdout, For: c.For, Plain: c.Plain, Devices: c.Devices, Rate: c.Rate,
		Version: readBuild().Version, DatabaseURL: database,
	})
}
