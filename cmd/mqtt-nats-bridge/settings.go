package main

import (
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
)

// settings are the flags that configure the bridge. Pointers distinguish an empty value from a
// missing one.
type settings struct {
	Config    string   `short:"c" placeholder:"FILE" env:"BRIDGE_CONFIG" help:"The YAML configuration file; - for standard input."`
	MQTTURL   *string  `name:"mqtt-url" placeholder:"URL" help:"The broker: mqtt://host:1883, or mqtts://host:8883 for TLS."`
	NATSURL   *string  `name:"nats-url" placeholder:"URL" help:"The NATS servers: nats://host:4222, comma-separated."`
	LogLevel  *string  `placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat *string  `placeholder:"FORMAT" help:"console, json, or auto: console on a terminal, JSON elsewhere."`
	Set       []string `sep:"none" placeholder:"KEY=VALUE" help:"Any configuration key by its path, like limits.payload=64KiB; may be repeated. Not for secrets: other users of the machine can read the command line."`
}

// load reads the configuration. The error is a *config.Errors or a cli.UsageError.
func (p *program) load() (*config.Config, error) {
	flags, err := p.settings.flags()
	if err != nil {
		return nil, err
	}
	return config.Load(config.Sources{File: p.settings.Config, Stdin: p.stdin, Env: p.env, Flags: flags, Check: plan.Validate})
}

// compile reads the configuration and derives the plan.
func (p *program) compile() (*config.Config, *plan.Plan, error) {
	c, err := p.load()
	if err != nil {
		return nil, nil, err
	}
	plan, err := plan.Compile(c)
	return c, plan, err
}

func (s *settings) flags() ([]config.Flag, error) {
	return cli.Flags([]cli.Flag{
		{Name: "--mqtt-url", Path: "mqtt.url", Value: s.MQTTURL},
		{Name: "--nats-url", Path: "nats.url", Value: s.NATSURL},
		{Name: "--log-level", Path: "log.level", Value: s.LogLevel},
		{Name: "--log-format", Path: "log.format", Value: s.LogFormat},
	}, s.Set, "limits.payload=64KiB")
}
