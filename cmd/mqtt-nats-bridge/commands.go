package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/config"
)

// commands are the command line.
type commands struct {
	settings `group:"Configuration"`

	Run         runCommand         `cmd:"" default:"1" help:"Run the bridge. This is what happens without a command, too."`
	Demo        demoCommand        `cmd:"" help:"Show the whole job on this machine; nothing needs to be installed."`
	Check       checkCommand       `cmd:"" help:"Check the configuration and, with --connect, both ends."`
	Map         mapCommand         `cmd:"" help:"Say what would become of a topic."`
	Streams     streamsCommand     `cmd:"" help:"Compare the JetStream streams with the configuration, or change them."`
	Bench       benchCommand       `cmd:"" help:"Measure the bridge on this machine."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask the bridge running here whether it is ready."`
	Version     versionCommand     `cmd:"" help:"Print the versions of the bridge and of what it is built with."`

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
	BenchBare   benchBare   `cmd:"" hidden:"" help:"The bare publisher of a bench."`
}

const description = `Carries MQTT messages (from EMQX) into NATS JetStream: checked, stored exactly once, and acknowledged to the broker only when stored.

Without any configuration it connects to mqtt://127.0.0.1:1883 and nats://127.0.0.1:4222. Keys come from a YAML file, from BRIDGE_… variables (mqtt.keepalive is BRIDGE_MQTT_KEEPALIVE), and from flags; flags win over variables, variables over the file.

Try it, with nothing installed:

    mqtt-nats-bridge demo

Exit codes: 0 it worked; 1 it failed while running, or a check failed; 2 the configuration or the command line is at fault.`

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errSaid ends a command with exitFailed; what is wrong has been printed.
var errSaid = errors.New("said already")

// usageError is a fault of the command line, or of how the command was called.
type usageError struct{ error }

// program is what the commands share.
type program struct {
	settings *settings
	env      []string // as of os.Environ
	in       *os.File
	out, err *os.File
}

// execute runs one command line and returns the exit code. --help ends the
// process.
func execute(ctx context.Context, args []string) int {
	line := &commands{}
	p := &program{settings: &line.settings, env: os.Environ(), in: os.Stdin, out: os.Stdout, err: os.Stderr}
	parser, err := kong.New(line,
		kong.Name("mqtt-nats-bridge"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Bind(p), kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return conclude(p.err, err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return conclude(p.err, usageError{withExample(err)})
	}
	return conclude(p.err, parsed.Run())
}

// withExample adds how the command is called to an error of the parser, where
// the command has an example.
func withExample(err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	node := parse.Context.Selected()
	if node == nil || !node.Target.CanAddr() {
		return err
	}
	if c, ok := node.Target.Addr().Interface().(interface{ example() string }); ok {
		return fmt.Errorf("%w\nExample: %s", err, c.example())
	}
	return err
}

// conclude prints what is wrong for a reader, not as a log line, and returns the
// exit code.
func conclude(w io.Writer, err error) int {
	var faults *config.Faults
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &faults):
		fmt.Fprintln(w, faults)
		count := "1 fault"
		if n := len(faults.List); n > 1 {
			count = fmt.Sprintf("%d faults", n)
		}
		fmt.Fprintf(w, "%s in the configuration\n", count)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(w, "mqtt-nats-bridge: %v\nTry mqtt-nats-bridge --help\n", err)
		return exitUsage
	}
	fmt.Fprintf(w, "mqtt-nats-bridge: %v\n", err)
	return exitFailed
}
