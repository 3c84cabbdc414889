package main

import (
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
)

// commands defines the command line.
type commands struct {
	DatabaseURL  *string `name:"database-url" group:"Configuration" placeholder:"URL" help:"The database: postgres://user@host:port/name."`
	cli.Settings `group:"Configuration"`

	Run     runCommand     `cmd:"" default:"1" help:"Run ingest (default)."`
	Migrate migrateCommand `cmd:"" help:"Migrate the tables to this version."`
	Check   checkCommand   `cmd:"" help:"Validate the configuration and print the keys that differ from their defaults."`
	Bench   benchCommand   `cmd:"" help:"Measure ingest on this machine, compared with a bare COPY."`

	cli.Common[*config.Ingest]

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
}

const description = `Writes the streams of mqtt-nats-bridge into PostgreSQL: telemetry into the table telemetry, reported shadows into device_state, acknowledgements into device_commands. Writes are idempotent: a redelivered message has no further effect. A message that does not fit its table goes to quarantine with the reason.

Without any configuration it connects to nats://127.0.0.1:4222 and postgres://postgres@127.0.0.1:5432/postgres. Keys come from a YAML file, from INGEST_… variables (batch.flush is INGEST_BATCH_FLUSH), and from flags; flags take precedence over variables, variables over the file. -c - reads the file from standard input. DATABASE_URL and NATS_URL are honoured.

Any number of ingest processes can run concurrently and share the messages.

Exit codes: 0 success; 1 failure; 2 invalid configuration or command line.`
