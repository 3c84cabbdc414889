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

	Run         runCommand            `cmd:"" default:"1" help:"Run the bridge. This is what happens without a command, too."`
	Demo        demoCommand           `cmd:"" help:"Show the whole job on this machine; nothing needs to be installed."`
	Drill       drillCommand          `cmd:"" help:"Prove a deployment: a fleet of devices, and every message accounted for."`
	Check       checkCommand          `cmd:"" help:"Check the configuration and, with --connect, both ends."`
	Map         mapCommand            `cmd:"" help:"Say what would become of a topic."`
	Streams     streamsCommand        `cmd:"" help:"Compare the JetStream streams with the configuration, or change them."`
	Quarantine  quarantineCommand     `cmd:"" help:"Look at rejected messages, and replay them."`
	Sessions    sessionsCommand       `cmd:"" help:"End MQTT sessions that no lane will come back for."`
	Gate        gateCommand           `cmd:"" help:"Open EMQX's listener for devices once the bridge is ready."`
	Bench       benchCommand          `cmd:"" help:"Measure the bridge on this machine."`
	Healthcheck healthcheckCommand    `cmd:"" help:"Ask the bridge running here whether it is ready."`
	Top         topCommand            `cmd:"" help:"Show on the terminal how the bridge running here is doing."`
	Config      cli.ConfigCommand     `cmd:"" help:"Print a configuration file, the configuration in force, or its JSON Schema."`
	Completion  cli.CompletionCommand `cmd:"" help:"Print a script that completes the command line."`
	Version     versionCommand        `cmd:"" help:"Print the versions of the bridge and of what it is built with."`

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
	BenchBare   benchBare   `cmd:"" hidden:"" help:"The bare publisher of a bench."`
}

const programName = "mqtt-nats-bridge"

const description = `Carries MQTT messages (from EMQX) into NATS JetStream: checked, stored exactly once, and acknowledged to the broker only when stored.

Without any configuration it connects to mqtt://127.0.0.1:1883 and nats://127.0.0.1:4222. Keys come from a YAML file, from BRIDGE_… variables (mqtt.keepalive is BRIDGE_MQTT_KEEPALIVE), and from flags; flags win over variables, variables over the file. -c - reads the file from standard input.

Try it, with nothing installed:

    mqtt-nats-bridge demo

Exit codes: 0 it worked; 1 it failed while running, or a check failed; 2 the configuration or the command line is invalid.`

// program is what the commands share.
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
	parser, err := cli.Parser(line, programName, description, readBuild(),
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
