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

// Configuration is a loaded configuration: a *[config.Config] or a *[config.Ingest].
type Configuration interface {
	Settings() []schema.Setting
	ErrorAt(path, message string) config.Error
}

// Program is a program with a configuration of type C, and the argument of every command. [Main]
// sets the standard streams.
type Program[C Configuration] struct {
	Build       Build
	Description string
	// Schema has the external names of the configuration, Empty points to an empty one, and Read
	// loads it.
	Schema schema.Program
	Empty  C
	Read   func(config.Sources) (C, error)
	// Keys lists the keys in a configuration template, unless all are requested. Example is a
	// KEY=VALUE pair.
	Keys    []string
	Example string

	In, Out, Err *os.File
	Settings     *Settings

	stdin func() ([]byte, error)
	model *kong.Application
}

// Settings contains the configuration flags that all programs share; a program can add others to
// their group. A flag that sets one key is named after it, like --nats-url for nats.url. It is a
// pointer, which distinguishes an empty value from a missing one.
type Settings struct {
	Config    string   `short:"c" placeholder:"FILE" env:"${prefix}CONFIG" help:"YAML configuration file; - reads standard input."`
	NATSURL   *string  `name:"nats-url" placeholder:"URL" help:"The NATS servers: nats://host:4222, comma-separated."`
	LogLevel  *string  `placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat *string  `placeholder:"FORMAT" help:"console, json, or auto: console on a terminal, JSON elsewhere."`
	Set       []string `sep:"none" placeholder:"KEY=VALUE" help:"Set any configuration key by its path, like ${example}; may be repeated. Not for secrets: other users of the machine can read the command line."`
}

// Main parses the command line of p into line, which contains settings. It runs the command until
// it returns or a signal ends it, and returns the exit code. --help exits the process.
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

// flags returns the values from the command line. --set comes last, so it takes precedence over a
// flag for the same key.
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
			return nil, UsageError{fmt.Errorf("--set %q: expected KEY=VALUE, like --set %s", pair, p.Example)}
		}
		given = append(given, config.Flag{Name: "--set", Path: path, Value: value})
	}
	return given, nil
}

// configures reports whether a flag belongs to the configuration. Every command accepts these
// flags, but only the help of the program lists them.
func configures(f *kong.Flag) bool { return f.Group != nil && f.Group.Title == "Configuration" }

// help prints kong's help with two changes: it lists the configuration flags only for the program
// itself, and it replaces the variables in a command's text.
func (p *Program[C]) help(options kong.HelpOptions, ctx *kong.Context) error {
	selected := ctx.Selected()
	if selected == nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	selected.Detail = strings.NewReplacer("${program}", ctx.Model.Name, "${name}", p.Schema.Name, "${listen}", p.defaultListen()).Replace(selected.Detail)
	for _, flag := range ctx.Model.Flags {
		flag.Hidden = flag.Hidden || configures(flag) || flag.Name == "version"
	}
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintf(ctx.Stdout, "\nConfiguration flags (-c FILE, --set KEY=VALUE, …): %s --help\n", ctx.Model.Name)
	return err
}

// listen loads the configuration and returns the address of the admin endpoint.
func (p *Program[C]) listen() (string, error) {
	c, err := p.Load()
	if err != nil {
		return "", err
	}
	listen := schema.Of(c).All()["admin.listen"].Show()
	if listen == "" {
		return "", &config.Errors{List: []config.Error{
			c.ErrorAt("admin.listen", "is empty, so there is no admin endpoint to connect to; set it, like "+p.defaultListen()),
		}}
	}
	return listen, nil
}

func (p *Program[C]) defaultListen() string { return schema.Of(p.Empty).All()["admin.listen"].Default }
