package main

import (
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
)

// settings are the flags that configure ingest. Pointers distinguish an empty value from a missing
// one.
type settings struct {
	Config      string   `short:"c" placeholder:"FILE" env:"INGEST_CONFIG" help:"The YAML configuration file; - for standard input."`
	DatabaseURL *string  `name:"database-url" placeholder:"URL" help:"The database: postgres://user@host:port/name."`
	NATSURL     *string  `name:"nats-url" placeholder:"URL" help:"The NATS servers: nats://host:4222, comma-separated."`
	LogLevel    *string  `placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat   *string  `placeholder:"FORMAT" help:"console, json, or auto: console on a terminal, JSON elsewhere."`
	Set         []string `sep:"none" placeholder:"KEY=VALUE" help:"Any configuration key by its path, like batch.messages=1000; may be repeated. Not for secrets: other users of the machine can read the command line."`
}

// load reads the configuration. The error is a *config.Errors or a cli.UsageError.
func (p *program) load() (*config.Ingest, error) {
	flags, err := p.settings.flags()
	if err != nil {
		return nil, err
	}
	return config.LoadIngest(config.Sources{File: p.settings.Config, Stdin: p.stdin, Env: p.env, Flags: flags}, ingest.Check)
}

func (s *settings) flags() ([]config.Flag, error) {
	return cli.Flags([]cli.Flag{
		{Name: "--database-url", Path: "database.url", Value: s.DatabaseURL},
		{Name: "--nats-url", Path: "nats.url", Value: s.NATSURL},
		{Name: "--log-level", Path: "log.level", Value: s.LogLevel},
		{Name: "--log-format", Path: "log.format", Value: s.LogFormat},
	}, s.Set, "batch.messages=1000")
}
