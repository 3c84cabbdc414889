package main

import (
	"context"
	"os"
	"time"

	"mqtt-nats-bridge/internal/bench"
)

// benchCommand measures the bridge on this machine.
type benchCommand struct {
	Messages int           `default:"300000" help:"Messages per run at full speed."`
	Size     int           `default:"256" help:"Payload in bytes."`
	Window   int           `default:"1000" help:"Messages in flight per lane."`
	Rounds   int           `default:"3" help:"Rounds of each scenario; medians are printed."`
	Devices  int           `default:"1000000" help:"Devices in the memory row; --devices=-1 omits the row."`
	Linger   time.Duration `default:"0s" help:"lane.linger of the bridge."`
	Only     string        `help:"Run only the scenarios whose name contains this text."`
	Profile  string        `type:"existingdir" help:"Directory for CPU profiles of the bridge."`
}

// Help returns the text of --help beyond the flags.
func (benchCommand) Help() string {
	return `Starts a nats-server process, an MQTT load generator and the bridge on 127.0.0.1. For comparison, a bare publisher then sends the same messages. Rows with R3 run on three nats-servers with strict order. The benchmark takes about three minutes and prints one table: messages per second, CPU time per message in the bridge and in nats-server, allocations, latency, memory.

Example: mqtt-nats-bridge bench --rounds 1 --only "1 lane"`
}

// Run runs the command.
func (c *benchCommand) Run(ctx context.Context) error {
	return bench.Run(ctx, bench.Options{
		Messages: c.Messages, Size: c.Size, Window: c.Window, Rounds: c.Rounds, Devices: c.Devices,
		Linger: c.Linger, Only: c.Only, Profile: c.Profile, Out: os.Stdout,
	})
}

// benchServer and benchBare run in the processes that bench starts.
type benchServer struct{ bench.ServerOptions }

func (c *benchServer) Run(ctx context.Context) error {
	return bench.Serve(ctx, os.Stdout, c.ServerOptions)
}

type benchBare struct{ bench.BareOptions }

func (c *benchBare) Run(ctx context.Context) error {
	return bench.PublishBare(ctx, os.Stdout, c.BareOptions)
}
