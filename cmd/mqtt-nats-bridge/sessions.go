package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/sessions"
)

// sessionsCommand manages the broker sessions of lanes.
type sessionsCommand struct {
	Clear sessionsClear `cmd:"" help:"Delete the broker sessions of removed lanes."`
}

type sessionsClear struct {
	ClientIDs []string `arg:"" name:"client-id" help:"Client ids of the lanes, like bridge-3."`
	Yes       bool     `short:"y" help:"Do not ask."`
}

// Help returns the text of --help beyond the flags.
func (sessionsClear) Help() string {
	return `The broker keeps a lane's session while the lane is disconnected, so that nothing is lost. If a lane is removed, EMQX continues to route its share of a $share group to the session until the session expires.

The messages in a deleted session are lost: they have been acknowledged to the devices and are not stored anywhere. So retire the lane first (lanes.retiring): it leaves its group and drains its session. A client that is connected under the id is disconnected. MQTT 3.1.1 does not report whether there is one, so the command asks for confirmation; without a terminal, --yes is required.

Client ids of the given configuration are refused. The exit code is 1 if a session could not be deleted.

Example, after lanes.count was reduced from 4 to 2: mqtt-nats-bridge sessions clear bridge-2 bridge-3 -c bridge.yaml`
}

func (sessionsClear) Example() string { return "mqtt-nats-bridge sessions clear bridge-2 bridge-3" }

// Run implements the command.
func (s *sessionsClear) Run(ctx context.Context, p *program) error {
	if !s.Yes && !cli.IsTerminal(p.In) {
		return cli.UsageError{Err: errors.New("sessions clear: no terminal to ask for confirmation; make sure that these client ids are not in use, then set --yes")}
	}
	c, err := p.Load()
	if err != nil {
		return err
	}
	if err := sessions.Check(c, s.ClientIDs); err != nil {
		return cli.UsageError{Err: fmt.Errorf("sessions clear: %w", err)}
	}
	if !s.Yes {
		fmt.Fprintf(p.Out, "This deletes the sessions of %[2]s at %[1]s, with all their messages.\nA client that is connected under one of these client ids is disconnected.\n", c.MQTT.URL, strings.Join(s.ClientIDs, ", "))
		if err := confirm(ctx, p, "Clear?", "nothing was deleted"); err != nil {
			return err
		}
	}
	ok, err := sessions.Clear(ctx, c, s.ClientIDs, p.Out)
	if err != nil {
		return err
	}
	if !ok {
		return cli.ErrReported
	}
	return nil
}
