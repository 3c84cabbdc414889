package cli

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/top"
)

// Common contains the commands that all programs share.
type Common[C Configuration] struct {
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`

	Healthcheck healthcheckCommand[C] `cmd:"" help:"Check whether ${name} on this machine is ready."`
	Top         topCommand[C]         `cmd:"" help:"Show the state of ${name} on this machine, live."`
	Config      configCommand[C]      `cmd:"" help:"Print a configuration template, the effective configuration, or its JSON Schema."`
	Completion  completionCommand     `cmd:"" help:"Print a shell completion script."`
	Version     versionCommand        `cmd:"" help:"Print the versions of ${name} and its main dependencies."`
}

// healthcheckCommand lets a container without a shell run a health check.
type healthcheckCommand[C Configuration] struct {
	Timeout time.Duration `default:"3s" help:"Timeout of the request."`
}

// Help returns the text of --help beyond the flags.
func (healthcheckCommand[C]) Help() string {
	return `Requests /readyz of ${name} on this machine, at the configured admin.listen. If ${name} is ready, the exit code is 0. Otherwise the command prints the reasons, and the exit code is 1.

Example, in a Dockerfile: HEALTHCHECK CMD ["/${program}", "healthcheck"]`
}

// Run implements the command.
func (h *healthcheckCommand[C]) Run(ctx context.Context, p *Program[C]) error {
	listen, err := p.listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	return endpoint.Healthcheck(ctx, p.Schema.Name, listen)
}

// topCommand shows the page of the admin endpoint on a terminal.
type topCommand[C Configuration] struct {
	Admin string `placeholder:"ADDRESS" help:"The admin endpoint: host:port or a URL. Default: admin.listen."`
}

// Help returns the text of --help beyond the flags.
func (topCommand[C]) Help() string {
	return `Shows the page of the admin endpoint and refreshes it every 2 seconds; q or Ctrl-C ends it. If ${name} does not answer, the command reports that and keeps trying. If input or output is not a terminal, it prints the view once, and the exit code is 1 if there was no answer. NO_COLOR=1 turns colours off.

Example: ${program} top --admin ${listen}`
}

// Run implements the command.
func (t *topCommand[C]) Run(ctx context.Context, p *Program[C]) (err error) {
	address := t.Admin
	if address == "" {
		if address, err = p.listen(); err != nil {
			return err
		}
	}
	base, err := endpoint.URL(address)
	if err != nil {
		return UsageError{Err: fmt.Errorf("top: %w", err)}
	}
	// Handle these signals too, so that the terminal is restored.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	return top.Show(ctx, top.Options{URL: base, In: p.In, Out: p.Out, Colour: Colour(p.Out)})
}
