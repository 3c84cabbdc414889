package main

import (
	"context"
	"os"

	"mqtt-nats-bridge/internal/ingest"
	"mqtt-nats-bridge/internal/ingestbench"
)

// benchCommand measures ingest on this machine.
type benchCommand struct {
	Messages int    `default:"200000" help:"Messages per round."`
	Devices  int    `default:"1000" help:"Number of devices."`
	Size     int    `default:"256" help:"Payload in bytes."`
	Rounds   int    `default:"3" help:"Number of rounds; medians are printed."`
	Workers  int    `default:"4" help:"telemetry.workers of ingest."`
	Batch    int    `default:"500" help:"batch.messages of ingest."`
	Profile  string `type:"existingdir" help:"Directory for a CPU profile of ingest."`
}

// Help returns the text of --help beyond the flags.
func (benchCommand) Help() string {
	return `Starts a nats-server process on 127.0.0.1 with a stream of messages, and an ingest process that writes them to the given database. For comparison, one bare COPY then writes the same rows into a table with the same keys, and into one without keys. Prints rows per second, their ratio, CPU time per row and memory. All tables are in a temporary schema.

Example: ingest bench --database-url postgres://postgres@127.0.0.1/postgres`
}

// Run runs the command.
func (c *benchCommand) Run(ctx context.Context, p *program) error {
	conf, err := p.Load()
	if err != nil {
		return err
	}
	pool, err := ingest.ConnConfig(conf)
	if err != nil {
		return err
	}
	return ingestbench.Run(ctx, ingestbench.Options{
		Database: pool.ConnConfig, URL: conf.Database.URL.Reveal(conf.Database.Password),
		Messages: c.Messages, Devices: c.Devices, Size: c.Size, Rounds: c.Rounds, Workers: c.Workers, Batch: c.Batch,
		Profile: c.Profile, Out: p.Out,
	})
}

// benchServer runs in a process that bench starts.
type benchServer struct {
	Store string `required:"" help:"Directory of JetStream's files."`
}

func (c *benchServer) Run(ctx context.Context) error {
	return ingestbench.Serve(ctx, os.Stdout, c.Store)
}
