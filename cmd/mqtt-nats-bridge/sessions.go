package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/sessions"
)

// sessionsCommand is about what the broker keeps for lanes.
type sessionsCommand struct {
	Clear sessionsClear `cmd:"" help:"End the sessions of lanes that are gone for good."`
}

type sessionsClear struct {
	ClientIDs []string `arg:"" name:"client-id" help:"What the lane connected as: bridge-3."`
	Yes       bool     `short:"y" help:"Do not ask."`
}

// Help is what --help says beyond the flags.
func (sessionsClear) Help() string {
	return `The broker keeps a lane's session while the lane is disconnected, so that nothing is lost. For one that never comes back that is a trap: of a $share group EMQX goes on giving it its share of new messages until the session expires, and only then to the others.

What a session still holds when it is cleared is thrown away: it has been acknowledged to the devices and is stored nowhere. So let the lane retire first (lanes.retiring): it leaves its group and stores what is left. A client that is connected under the id is thrown out; MQTT 3.1.1 does not tell whether there is one, so this asks first. Without a terminal --yes is required.

A client id of the configuration given is refused. The exit code is 1 if a session could not be ended.

Example, after lanes.count went from 4 to 2: mqtt-nats-bridge sessions clear bridge-2 bridge-3 -c bridge.yaml`
}

func (sessionsClear) Example() string { return "mqtt-nats-bridge sessions clear bridge-2 bridge-3" }

// Run implements the command.
func (s *sessionsClear) Run(ctx context.Context, p *program) error {
	if !s.Yes && !cli.IsTerminal(p.in) {
		return cli.UsageError{Err: errors.New("sessions clear: there is no terminal to ask on: make sure that nobody uses these client ids, then give --yes")}
	}
	c, err := p.load()
	if err != nil {
		return err
	}
	if err := sessions.Check(c, s.ClientIDs); err != nil {
		return cli.UsageError{Err: fmt.Errorf("sessions clear: %w", err)}
	}
	if !s.Yes {
		fmt.Fprintf(p.out, "At %s the sessions of %s end, with every message they hold.\nA client that is connected under one of these client ids is thrown out.\n", c.MQTT.URL, strings.Join(s.ClientIDs, ", "))
		ok, err := p.confirm(ctx, "Clear?")
		if err != nil {
			return err
		}
		if !ok {
			fmt.Fprintln(p.out, "nothing was cleared")
			return cli.ErrReported
		}
	}
	ok, err := sessions.Clear(ctx, c, s.ClientIDs, p.out)
	if err != nil {
		return err
	}
	if !ok {
		return cli.ErrReported
	}
	return nil
}
