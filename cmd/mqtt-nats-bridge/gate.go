package main

import (
	"context"
	"errors"
	"fmt"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/gate"
	"mqtt-nats-bridge/internal/plan"
)

// gateCommand opens EMQX's listener for devices.
type gateCommand struct {
	Listener string   `default:"ssl:default" help:"EMQX's listener for devices."`
	Bridge   []string `placeholder:"HOST:PORT" help:"Admin endpoints of bridges; one of them must be ready. Default: admin.listen."`
	Once     bool     `help:"Try once; the exit code is 0 if the listener is open, otherwise 1."`
}

// Help returns the text of --help beyond the flags.
func (gateCommand) Help() string {
	return `EMQX accepts connections before it has loaded its ACL and rules, and before the bridge has resumed its sessions. Messages that devices publish in that time are acknowledged and lost. Set enable = false on the devices' listener in emqx.conf, as deploy/emqx/emqx.conf does: EMQX then starts with the listener closed, and this command opens it through EMQX's API when

  - the rule that republishes to identity.prefix is loaded,
  - every lane of the configuration is connected to EMQX,
  - the bridge is ready (/readyz).

It keeps watching and opens the listener again after each restart of EMQX. It never closes the listener. It needs mqtt.emqx.api with an administrator key, and uses the keys mqtt.emqx, mqtt.client_id, lanes, identity, admin.listen and log. In a cluster run one instance per node, with the API of that node.

Example: mqtt-nats-bridge gate --bridge bridge:9464`
}

// Run implements the command.
func (g *gateCommand) Run(ctx context.Context, p *program) error {
	c, compiled, err := compile(p)
	if err != nil {
		return err
	}
	log, _, err := cli.NewLogger(p.Err, c.Log)
	if err != nil {
		return err
	}
	if err := g.complete(c); err != nil {
		return err
	}
	opts := gate.Options{EMQX: plan.EMQXClient(c.MQTT.EMQX), Listener: g.Listener, Ready: g.ready, Log: log}
	defer opts.EMQX.Close()
	for _, l := range compiled.Lanes {
		opts.Lanes = append(opts.Lanes, l.ClientID)
	}
	if c.Identity.Mode == config.Attested {
		opts.Prefix = c.Identity.Prefix
	}
	if g.Once {
		return gate.Open(ctx, opts)
	}
	return gate.Run(ctx, opts)
}

// complete fills in the options from the configuration. It returns an error if a required key is
// missing.
func (g *gateCommand) complete(c *config.Config) error {
	errs := &config.Errors{}
	if c.MQTT.EMQX.API.IsZero() {
		errs.Add(c.ErrorAt("mqtt.emqx.api", "is not set, but opening the listener needs EMQX's API; set it, like http://emqx:18083"))
	}
	if len(g.Bridge) == 0 {
		if c.Admin.Listen == "" {
			errs.Add(c.ErrorAt("admin.listen", "is empty, so the readiness of the bridge cannot be checked; set --bridge"))
		}
		g.Bridge = []string{c.Admin.Listen}
	}
	return errs.Err()
}

// ready returns nil if one of the bridges is ready, otherwise the errors of all.
func (g *gateCommand) ready(ctx context.Context) error {
	var all []error
	for _, address := range g.Bridge {
		err := endpoint.Healthcheck(ctx, "the bridge", address)
		if err == nil {
			return nil
		}
		all = append(all, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(all...)
}
