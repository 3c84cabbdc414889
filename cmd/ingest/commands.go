package main

import (
	"context"
	"os"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/schema"
)

// commands are the command line.
type commands struct {
	settings `group:"Configuration"`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`

	Run         runCommand            `cmd:"" default:"1" help:"Run ingest (default)."`
	Migrate     migrateCommand        `cmd:"" help:"Migrate the tables to this version."`
	Check       checkCommand          `cmd:"" help:"Validate the configuration and print what differs from the defaults."`
	Bench       benchCommand          `cmd:"" help:"Measure ingest on this machine, compared with a bare COPY."`
	Healthcheck healthcheckCommand    `cmd:"" help:"Check whether the ingest on this machine is ready."`
	Top         topCommand            `cmd:"" help:"Show the state of the ingest on this machine, live."`
	Config      cli.ConfigCommand     `cmd:"" help:"Print a configuration template, the effective configuration, or its JSON Schema."`
	Completion  cli.CompletionCommand `cmd:"" help:"Print a shell completion script."`
	Version     cli.VersionCommand    `cmd:"" help:"Print the versions of ingest and its main dependencies."`

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
}

const programName = "ingest"

const description = `Writes the streams of mqtt-nats-bridge into PostgreSQL: telemetry into the table telemetry, reported shadows into device_state, acknowledgements into device_commands. Writes are idempotent: a message has its effect once, however often it is delivered. A message that does not fit its table goes to quarantine with the reason.

Without any configuration it connects to nats://127.0.0.1:4222 and postgres://postgres@127.0.0.1:5432/postgres. Keys come from a YAML file, from INGEST_… variables (batch.flush is INGEST_BATCH_FLUSH), and from flags; flags take precedence over variables, variables over the file. -c - reads the file from standard input. DATABASE_URL and NATS_URL are honoured.

Any number of ingest processes may run concurrently: they share the messages.

Exit codes: 0 success; 1 failure; 2 invalid configuration or command line.`

// program is the state shared by the commands.
type program struct {
	settings *settings
	env      []string // as of os.Environ
	stdin    func() ([]byte, error)
	in       *os.File
	out, err *os.File
}

// execute runs one command line and returns the exit code. --help ends the
// process.
func execute(ctx context.Context, args []string) int {
	line := &commands{}
	p := &program{settings: &line.settings, env: os.Environ(), stdin: cli.Stdin(os.Stdin), in: os.Stdin, out: os.Stdout, err: os.Stderr}
	parser, err := cli.Parser(line, description, readBuild(),
		kong.Bind(p, &cli.Configuration{
			Program: config.IngestProgram(), Command: programName, Empty: &config.Ingest{}, Keys: config.IngestKeys(), Out: p.out,
			Settings: func() ([]schema.Setting, error) {
				c, err := p.load()
				if err != nil {
					return nil, err
				}
				return c.Settings(), nil
			},
		}), kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return cli.Exit(p.err, programName, err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return cli.Exit(p.err, programName, cli.UsageError{Err: cli.WithExample(err)})
	}
	return cli.Exit(p.err, programName, parsed.Run())
}
