package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"mqtt-nats-bridge/internal/check"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/schema"
	"mqtt-nats-bridge/internal/tlsfile"
)

// checkCommand validates a configuration.
type checkCommand struct {
	cli.Output

	All     bool `help:"Print every key of the configuration, not only those that differ from the defaults."`
	Connect bool `help:"Also connect to the broker and to NATS."`

	DeviceURL  string `name:"device-url" and:"device" placeholder:"URL" help:"With --connect, the devices' listener of the same broker, like mqtts://host:8883: test whether a device can choose the client id of a lane."`
	DeviceCert string `name:"device-cert" and:"device" placeholder:"FILE" help:"Certificate of the device to connect as."`
	DeviceKey  string `name:"device-key" and:"device" placeholder:"FILE" help:"Key of the certificate in --device-cert."`
	DeviceCA   string `name:"device-ca" placeholder:"FILE" help:"CA certificates of the devices' listener; default: mqtt.tls.ca, otherwise the system's."`
}

// Help returns the text of --help beyond the flags.
func (checkCommand) Help() string {
	return `Prints one line per finding: ok, note (verify it yourself) or FAIL (with advice). Then it prints the keys that differ from their defaults, with their source; with --all, every key.

With --connect it also tests the broker (address, TLS, credentials, every topic filter), NATS (address, credentials, JetStream, streams, limits, buckets, every publish permission) and the table of certificates in PostgreSQL. It does not disturb a running bridge: it uses a separate client id and $share group, and publishes only messages that no stream can store. Plain subscribers of tenant.> receive a few empty messages.

With --device-url it also connects as a device, then as the bridge, both under a client id that no lane uses. If the second connection ends the first, a device can take over the session of a lane, and the check fails. It does not subscribe or publish, but EMQX's presence rule reports the device's connection: use a certificate issued for this test.

The exit code is 1 if a check failed, 2 if the configuration is invalid.

Example: mqtt-nats-bridge check --connect -c bridge.yaml`
}

// Run implements the command.
func (c *checkCommand) Run(ctx context.Context, p *program) error {
	device, err := c.device()
	if err != nil {
		return cli.UsageError{Err: err}
	}
	conf, plan, err := compile(p)
	if err != nil {
		return c.invalid(p.Out, err)
	}
	out := io.Writer(p.Out)
	if c.JSON() {
		out = io.Discard
	}
	report := check.NewReport(out)
	check.Local(conf, plan, report)
	if c.Connect {
		check.Broker(ctx, conf, plan, report)
		check.EMQX(ctx, conf, report)
		if device != nil {
			check.DeviceClientID(ctx, conf, *device, report)
		}
		check.NATS(ctx, conf, plan, report)
		check.Registry(ctx, conf, report)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.print(p.Out, report, conf.Settings()); err != nil {
		return err
	}
	if report.Failed() > 0 {
		return cli.ErrReported
	}
	return nil
}

// invalid returns err. With JSON output it first prints the errors in the configuration as
// findings.
func (c *checkCommand) invalid(w io.Writer, err error) error {
	var errs *config.Errors
	if !c.JSON() || !errors.As(err, &errs) {
		return err
	}
	report := check.NewReport(io.Discard)
	for _, e := range errs.List {
		report.Fail("config", "%v", e)
	}
	return cmp.Or(cli.PrintJSON(w, checked{report.Failed(), report.Findings, []schema.Setting{}}), err)
}

// checked is the report as JSON.
type checked struct {
	Failed   int              `json:"failed"`
	Findings []check.Finding  `json:"findings"`
	Settings []schema.Setting `json:"settings"`
}

// print writes the number of failed checks and the settings, or the whole report as JSON.
func (c *checkCommand) print(w io.Writer, report *check.Report, settings []schema.Setting) error {
	if !c.All {
		settings = schema.Changed(settings)
	}
	if c.JSON() {
		return cli.PrintJSON(w, checked{report.Failed(), report.Findings, settings})
	}
	switch n := report.Failed(); n {
	case 0:
	case 1:
		fmt.Fprintln(w, "\n1 check failed")
	default:
		fmt.Fprintf(w, "\n%d checks failed\n", n)
	}
	_, err := fmt.Fprint(w, "\n", cli.Changes(settings, c.All))
	return err
}

// device returns the device to connect as, or nil if --device-url is not set.
func (c *checkCommand) device() (*check.Device, error) {
	switch {
	case c.DeviceURL == "" && c.DeviceCA == "":
		return nil, nil
	case c.DeviceURL == "":
		return nil, errors.New("--device-ca needs --device-url")
	case !c.Connect:
		return nil, errors.New("--device-url needs --connect")
	}
	url, err := config.ParseBrokerURL(c.DeviceURL)
	if err != nil {
		return nil, fmt.Errorf("--device-url: %w", err)
	}
	if !url.Secure {
		return nil, errors.New("--device-url must begin with mqtts:// or wss://, because a device certificate needs TLS")
	}
	files := tlsfile.Files{CA: c.DeviceCA, Cert: c.DeviceCert, Key: c.DeviceKey}
	if _, err := files.Config(""); err != nil {
		return nil, err
	}
	return &check.Device{URL: url, Files: files}, nil
}
