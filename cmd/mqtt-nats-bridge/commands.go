package main

import (
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
)

// commands defines the command line.
type commands struct {
	MQTTURL      *string `name:"mqtt-url" group:"Configuration" placeholder:"URL" help:"The broker: mqtt://host:1883, or mqtts://host:8883 for TLS."`
	cli.Settings `group:"Configuration"`

	Run        runCommand        `cmd:"" default:"1" help:"Run the bridge (default)."`
	Demo       demoCommand       `cmd:"" help:"Run the whole pipeline on this machine with embedded servers."`
	Drill      drillCommand      `cmd:"" help:"Test a running deployment with simulated devices and reconcile every message."`
	Check      checkCommand      `cmd:"" help:"Validate the configuration and, with --connect, broker and NATS."`
	Map        mapCommand        `cmd:"" help:"Show how a topic is routed: subject, stream, verdict."`
	Streams    streamsCommand    `cmd:"" help:"Diff the configured streams against the existing ones, or apply the difference."`
	Quarantine quarantineCommand `cmd:"" help:"List, show, count and replay quarantined messages."`
	Sessions   sessionsCommand   `cmd:"" help:"Delete the broker sessions of removed lanes."`
	Gate       gateCommand       `cmd:"" help:"Open EMQX's listener for devices when the bridge is ready."`
	Bench      benchCommand      `cmd:"" help:"Measure the bridge on this machine."`

	cli.Common[*config.Config]

	BenchServer benchServer `cmd:"" hidden:"" help:"The nats-server of a bench."`
	BenchBare   benchBare   `cmd:"" hidden:"" help:"The bare publisher of a bench."`
}

const description = `Moves MQTT messages into NATS JetStream: validated, in per-device order, exactly once. The broker gets its PUBACK only after JetStream has stored the message.

Without any configuration it connects to mqtt://127.0.0.1:1883 and nats://127.0.0.1:4222. Keys come from a YAML file, from BRIDGE_… variables (mqtt.keepalive is BRIDGE_MQTT_KEEPALIVE), and from flags; flags take precedence over variables, variables over the file. -c - reads the file from standard input.

To try it without installing anything:

    mqtt-nats-bridge demo

Exit codes: 0 success; 1 failure, or a failed check; 2 invalid configuration or command line.`

// compile reads the configuration and derives the plan.
func compile(p *program) (*config.Config, *plan.Plan, error) {
	c, err := p.Load()
	if err != nil {
		return nil, nil, err
	}
	plan, err := plan.Compile(c)
	return c, plan, err
}
