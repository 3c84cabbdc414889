package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/drill"
)

// drillCommand tests a deployment while its operator injects failures.
type drillCommand struct {
	Broker string        `required:"" placeholder:"URL" help:"The devices' listener: mqtts://host:8883, or mqtt://host:1883 without TLS."`
	For    time.Duration `placeholder:"60s" help:"Duration of the drill; default: until Ctrl-C."`
	Output string        `short:"o" enum:"text,json" default:"text" help:"Format of the report: text or json."`
	Plain  bool          `help:"Print a line per second, even on a terminal."`

	CACert       string `name:"ca-cert" placeholder:"FILE" help:"CA certificates of the broker; default: the system's."`
	CAKey        string `name:"ca-key" placeholder:"FILE" help:"Key of the CA in --ca-cert: each device gets a new certificate, valid for one day."`
	Certs        string `placeholder:"DIR" help:"Use existing device certificates from this directory instead: NAME.pem and NAME.key, as in deploy/certs/devices."`
	Username     string `placeholder:"NAME" help:"User name of every device; default: none."`
	PasswordFile string `placeholder:"FILE" help:"File with the password of every device."`

	Devices   int           `default:"${drill_devices}" help:"Number of simulated devices."`
	Rate      float64       `default:"${drill_rate}" help:"Messages per second, for all devices together."`
	Window    int           `default:"${drill_window}" help:"Messages in flight per device."`
	Size      int           `default:"${drill_size}" help:"Payload in bytes."`
	KeepAlive time.Duration `name:"keepalive" default:"${drill_keepalive}" help:"Keep-alive of each device."`
	Tenant    string        `default:"${drill_tenant}" help:"Tenant of the devices; with --certs that of the certificates."`
	Topic     string        `default:"${drill_topic}" help:"Topic of a device."`
	Settle    time.Duration `default:"${drill_settle}" help:"At the end: timeout for PUBACKs, and for missing messages since the last arrival."`

	Hijack       bool   `help:"A device connects under the client id of a lane, with clean session 0 and 1."`
	LaneClientID string `name:"lane-client-id" placeholder:"ID" help:"Client id of the lane for --hijack; default: the first in the configuration."`
	Burst        int    `placeholder:"N" help:"After an outage, a device sends a burst of N messages."`
	Will         bool   `help:"Disconnect devices that have a last will."`
	Impostor     bool   `help:"A device publishes under the topic of another."`
}

// Help returns the text of --help beyond the flags.
func (drillCommand) Help() string {
	return `Runs simulated devices against a running broker, bridge and NATS, and reconciles every PUBACK with the contents of the streams: acknowledged, stored, lost, duplicated, inversions, quarantined, wrong device, longest gap. Inject failures while it runs. docs/drill.md has the drills to run before going live.

The drill reads topics, streams and NATS servers from the bridge's configuration (-c). The NATS user needs permission to read the streams. The bridge's user does not have it, so set another one with --set nats.user=... The drill's messages are stored, and consumers receive them. With --hijack, a broker that permits the takeover of a session loses its messages.

The exit code is 1 if a message was lost, duplicated, out of order or stored for a wrong device, if nothing was acknowledged, or if an injected misbehaviour was not handled as expected. Quarantined messages are reported and fail a drill only with --burst.

Example: mqtt-nats-bridge drill -c bridge.yaml --broker mqtts://emqx:8883 --ca-cert ca.pem --ca-key ca.key --for 60s`
}

func (drillCommand) Example() string {
	return "mqtt-nats-bridge drill --broker mqtts://emqx:8883 --ca-cert ca.pem --ca-key ca.key --for 60s"
}

// drillDefaults returns the values of the variables in the tags above.
func drillDefaults() map[string]string {
	return map[string]string{
		"drill_devices": fmt.Sprint(drill.DefaultDevices), "drill_rate": fmt.Sprint(drill.DefaultRate),
		"drill_window": fmt.Sprint(drill.DefaultWindow), "drill_size": fmt.Sprint(drill.DefaultSize),
		"drill_keepalive": drill.DefaultKeepAlive.String(), "drill_tenant": drill.DefaultTenant,
		"drill_topic": drill.DefaultTopic, "drill_settle": drill.DefaultSettle.String(),
	}
}

// Run implements the command.
func (d *drillCommand) Run(ctx context.Context, p *program) error {
	o, err := d.options(p)
	if err != nil {
		return err
	}
	err = drill.Run(ctx, *o)
	if errors.Is(err, drill.ErrFailed) {
		return cli.ErrReported
	}
	return err
}

func (d *drillCommand) options(p *program) (*drill.Options, error) {
	broker, err := config.ParseBrokerURL(d.Broker)
	if err != nil {
		return nil, cli.UsageError{Err: fmt.Errorf("--broker: %w", err)}
	}
	c, plan, err := compile(p)
	if err != nil {
		return nil, err
	}
	o := &drill.Options{
		Out: p.Out, JSON: d.Output == "json", Plain: d.Plain, For: d.For, Settle: d.Settle,
		Broker: broker, CACert: d.CACert, CAKey: d.CAKey, Certs: d.Certs, Username: d.Username,
		Devices: d.Devices, Rate: d.Rate, Window: d.Window, Size: d.Size, KeepAlive: d.KeepAlive,
		Tenant: d.Tenant, Topic: d.Topic,
		NATS: account.Options(c.NATS.Account, c.MQTT.ClientID+"-drill"), Topics: plan.Rules.Topics, DeviceRate: plan.Limits.Device.Rate,
		Hijack: d.Hijack, LaneClientID: d.LaneClientID, Burst: d.Burst, Will: d.Will, Impostor: d.Impostor,
	}
	if d.PasswordFile != "" {
		password, err := os.ReadFile(d.PasswordFile)
		if err != nil {
			return nil, cli.UsageError{Err: fmt.Errorf("--password-file: %w", err)}
		}
		o.Password = strings.TrimRight(string(password), "\r\n")
	}
	for _, s := range plan.Streams {
		o.Streams = append(o.Streams, s.Name)
	}
	if c.Quarantine.Store {
		o.Quarantine = c.Streams.Quarantine.Name
	}
	if ids := c.ClientIDs(); o.LaneClientID == "" && len(ids) > 0 {
		o.LaneClientID = ids[0]
	}
	if err := o.Check(); err != nil {
		return nil, cli.UsageError{Err: fmt.Errorf("drill: %w", err)}
	}
	return o, nil
}
