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

	Run         runCommand            `cmd:"" default:"1" help:"Run the bridge (default)."`
	Demo        demoCommand           `cmd:"" help:"Run the whole pipeline on this machine with embedded servers."`
	Drill       drillCommand          `cmd:"" help:"Test a running deployment with simulated devices and reconcile every message."`
	Check       checkCommand          `cmd:"" help:"Validate the configuration and, with --connect, broker and NATS."`
	Map         mapCommand            `cmd:"" help:"Show how a topic is routed: subject, stream, verdict."`
	Streams     streamsCommand        `cmd:"" help:"Diff the configured streams against the existing ones, or apply the difference."`
	Quarantine  quarantineCommand     `cmd:"" help:"List, show, count and replay quarantined messages."`
	Sessions    sessionsCommand       `cmd:"" help:"Delete the broker sessions of removed lanes."`
	Gate        gateCommand           `cmd:"" help:"Open EMQX's listener for devices when the bridge is ready."`
	Bench       benchCommand          `cmd:"" help:"Measure the bridge on this machine."`
	Healthcheck healthcheckCommand    `cmd:"" help:"Check whether the bridge on this machine is ready."`
	Top         topCommand            `cmd:"" help:"Show the state of the bridge on this machine, live."`
	Config      cli.ConfigCommand     `cmd:"" help:"Print a configuration template, the effective configuration, or its JSON Schema."`
	Completion  cli.CompletionCommand `cmd:"" help:"Print a shell completion script."`
	Version     cli.VersionCommand    `cmd:"" help:"Print the versions of the bridge and its main dependencies."`

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
	BenchBare   benchBare   `cmd:"" hidden:"" help:"The bare publisher of a bench."`
}

const programName = "mqtt-nats-bridge"

const description = `Moves MQTT messages into NATS JetStream: validated, in per-device order, exactly once. The broker gets its PUBACK only after JetStream has stored the message.

Without any configuration it connects to mqtt://127.0.0.1:1883 and nats://127.0.0.1:4222. Keys come from a YAML file, from BRIDGE_… variables (mqtt.keepalive is BRIDGE_MQTT_KEEPALIVE), and from flags; flags take precedence over variables, variables over the file. -c - reads the file from standard input.

Try it, nothing needs to be installed:

    mqtt-nats-bridge demo

Exit codes: 0 success; 1 failure, or a failed check; 2 invalid configuration or command line.`

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
		kong.Vars(drillDefaults()),
		kong.Bind(p, &cli.Configuration{
			Program: config.BridgeProgram(), Command: programName, Empty: &config.Config{}, Keys: config.BridgeKeys(), Out: p.out,
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
