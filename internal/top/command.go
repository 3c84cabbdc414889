package top

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/endpoint"
)

// Command is the command top of both programs.
type Command struct {
	Admin string `placeholder:"ADDRESS" help:"The admin endpoint: host:port or a URL. Default: admin.listen."`
}

// Show shows the view until ctx or the user ends it. listen returns admin.listen; it is called
// only without --admin.
func (c *Command) Show(ctx context.Context, listen func() (string, error), in, out *os.File) error {
	admin := c.Admin
	if admin == "" {
		var err error
		if admin, err = listen(); err != nil {
			return err
		}
	}
	base, err := endpoint.URL(admin)
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("top: %w", err)}
	}
	// These too leave the terminal as it was.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	return Show(ctx, Options{URL: base, In: in, Out: out, Colour: cli.Colour(out)})
}
