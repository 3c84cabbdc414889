package cli

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/schema"
)

// Configuration is a configuration that was loaded: a *[config.Config] or a *[config.Ingest].
type Configuration interface {
	Settings() []schema.Setting
	ErrorAt(path, message string) config.Error
	AdminListen() string
}

// Program is a program with a configuration of type C. The commands get it: [Main] adds what they
// read and write.
type Program[C Configuration] struct {
	Build       Build
	Description string
	// Schema is what the configuration is called outside, Empty points to an empty one, and Read
	// loads it.
	Schema schema.Program
	Empty  C
	Read   func(config.Sources) (C, error)
	// Keys are those of a new file, unless it is to have all; Example is a KEY=VALUE pair.
	Keys    []string
	Example string

	In, Out, Err *os.File
	Settings     *Settings

	stdin func() ([]byte, error)
	model *kong.Application
}

// Settings are the flags of the configuration that every program has; a program may have others in
// their group. A flag that sets one key is called after it, --nats-url for nats.url, and is a
// pointer, which distinguishes an empty value from a missing one.
type Settings struct {
	Config    string   `short:"c" placeholder:"FILE" env:"${prefix}CONFIG" help:"The YAML configuration file; - for standard input."`
	NATSURL   *string  `name:"nats-url" placeholder:"URL" help:"The NATS servers: nats://host:4222, comma-separated."`
	LogLevel  *string  `placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat *string  `placeholder:"FORMAT" help:"console, json, or auto: console on a terminal, JSON elsewhere."`
	Set       []string `sep:"none" placeholder:"KEY=VALUE" help:"Any configuration key by its path, like ${example}; may be repeated. Not for secrets: other users of the machine can read the command line."`
}

// Main reads the command line of p into line, which settings are part of, runs the command until it
// ends or a signal ends it, and returns the exit code. --help ends the process.
func Main[C Configuration](p *Program[C], line any, settings *Settings, options ...kong.Option) int {
	ctx := UntilSignal(os.Interrupt, syscall.SIGTERM)
	p.In, p.Out, p.Err = os.Stdin, os.Stdout, os.Stderr
	p.Settings, p.stdin = settings, Stdin(os.Stdin)
	name := p.Build.Name
	parser, err := kong.New(line, append(options,
		kong.Name(name), kong.Description(p.Description),
		kong.Vars{"version": name + " " + p.Build.Version, "program": name, "name": p.Schema.Name, "example": p.Example, "prefix": p.Schema.Prefix},
		kong.Bind(p, p.Build), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Help(p.help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 80}),
	)...)
	if err != nil {
		return Exit(p.Err, name, err)
	}
	p.model = parser.Model
	parsed, err := parser.Parse(os.Args[1:])
	if err != nil {
		return Exit(p.Err, name, UsageError{Err: WithExample(err)})
	}
	return Exit(p.Err, name, parsed.Run())
}

// Load reads the configuration. The error is a *[config.Errors] or a [UsageError].
func (p *Program[C]) Load() (c C, err error) {
	flags, err := p.flags()
	if err != nil {
		return c, err
	}
	return p.Read(config.Sources{File: p.Settings.Config, Stdin: p.stdin, Env: os.Environ(), Flags: flags})
}

// flags are the values from the command line. Those of --set have the last word, for they name
// their key in full.
func (p *Program[C]) flags() ([]config.Flag, error) {
	var given []config.Flag
	for _, f := range p.model.Flags {
		if configures(f) && f.Target.Kind() == reflect.Pointer && !f.Target.IsNil() {
			given = append(given, config.Flag{Name: "--" + f.Name, Path: strings.ReplaceAll(f.Name, "-", "."), Value: f.Target.Elem().String()})
		}
	}
	for _, pair := range p.Settings.Set {
		path, value, ok := strings.Cut(pair, "=")
		if !ok || path == "" {
			return nil, UsageError{fmt.Errorf("--set %q: write KEY=VALUE, like --set %s", pair, p.Example)}
		}
		given = append(given, config.Flag{Name: "--set", Path: path, Value: value})
	}
	return given, nil
}

// configures reports whether a flag is one of the configuration: every command has these, and only
// the program's own help lists them.
func configures(f *kong.Flag) bool { return f.Group != nil && f.Group.Title == "Configuration" }

// help is kong's, but the flags of the configuration are under the program alone, and the variables
// in a command's text are replaced.
func (p *Program[C]) help(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() == nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	selected := ctx.Selected()
	selected.Detail = strings.NewReplacer("${program}", ctx.Model.Name, "${name}", p.Schema.Name, "${listen}", p.defaultListen()).Replace(selected.Detail)
	for _, flag := range ctx.Model.Flags {
		flag.Hidden = flag.Hidden || configures(flag) || flag.Name == "version"
	}
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintf(ctx.Stdout, "\nFlags of the configuration (-c FILE, --set KEY=VALUE, …): %s --help\n", ctx.Model.Name)
	return err
}

// listen loads the configuration and returns where its admin endpoint listens.
func (p *Program[C]) listen() (string, error) {
	c, err := p.Load()
	if err != nil {
		return "", err
	}
	if c.AdminListen() == "" {
		errs := &config.Errors{}
		errs.Add(c.ErrorAt("admin.listen", "is empty, so there is no endpoint to ask; write an address like "+p.defaultListen()))
		return "", errs
	}
	return c.AdminListen(), nil
}

func (p *Program[C]) defaultListen() string { return schema.Of(p.Empty).All()["admin.listen"].Default }
