package main

import (
	"fmt"

	"mqtt-nats-bridge/internal/check"
	"mqtt-nats-bridge/internal/cli"
)

// mapCommand shows how topics are routed.
type mapCommand struct {
	cli.Output

	Topics []string `arg:"" name:"topic" help:"Topic of a device, or an attested topic as the broker's rule writes it."`
}

// Help returns the text of --help beyond the flags.
func (m mapCommand) Help() string {
	return `Shows the matching pattern of each topic with its captures, and the subject and stream of its messages. If messages would be rejected, it shows the reason and their subject in quarantine. It does not connect anywhere and does not check payload or rate.

The exit code is 1 if a topic would be rejected.

Examples:

    ` + m.Example() + `

    mqtt-nats-bridge map bridge/v1/d/000660F22358AE4BB44B/1795442951630/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry`
}

func (mapCommand) Example() string {
	return "mqtt-nats-bridge map tenant/acme/device/dev-1/telemetry"
}

// Run implements the command.
func (m *mapCommand) Run(p *program) error {
	c, plan, err := compile(p)
	if err != nil {
		return err
	}
	rejected := false
	var traces []check.Trace
	for i, topic := range m.Topics {
		trace, err := check.Topic(c, plan, topic)
		if err != nil {
			return err
		}
		rejected = rejected || trace.Rejected
		if m.JSON() {
			traces = append(traces, trace)
			continue
		}
		if i > 0 {
			fmt.Fprintln(p.Out)
		}
		fmt.Fprint(p.Out, trace)
	}
	if m.JSON() {
		if err := cli.PrintJSON(p.Out, traces); err != nil {
			return err
		}
	}
	if rejected {
		return cli.ErrReported
	}
	return nil
}
