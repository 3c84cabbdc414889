package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/quarantine"
	"mqtt-nats-bridge/internal/schema"
)

// quarantineCommand contains the commands for quarantined messages.
type quarantineCommand struct {
	Ls     quarantineLs     `cmd:"" help:"List rejected messages, the newest first."`
	Show   quarantineShow   `cmd:"" help:"Show one rejected message."`
	Stats  quarantineStats  `cmd:"" help:"Count rejected messages by reason and device."`
	Replay quarantineReplay `cmd:"" help:"Re-validate quarantined messages and publish those that now pass."`
}

// quarantineReplay replays messages from quarantine.
type quarantineReplay struct {
	cli.Output
	quarantineFilter
	DryRun bool `help:"Report what would be done and change nothing."`
}

// Help returns the text of --help beyond the flags.
func (c quarantineReplay) Help() string {
	return `Re-validates each selected message against the given configuration, except for the rate. A message that passes is stored under its subject, in its format and with its message id, and then deleted from quarantine. The others stay in quarantine, and the reasons are printed. The replay is idempotent: a message is stored once, even if the command is interrupted and run again.

A message that an ingest worker could not process (bad_payload) is sent to the worker again, unchanged.

A replayed message is stored after later messages of its device; the header Bridge-Time has the original time. Only messages in quarantine can be replayed. Quarantine keeps at most quarantine.per_device messages per device, and only the beginning of payloads over the limit.

The NATS user needs permission to publish the replayed subjects and quarantine.replay, and to read and delete in the quarantine stream ($JS.API.>).

The exit code is 1 if a selected message stays in quarantine.

Example: ` + c.Example()
}

func (quarantineReplay) Example() string {
	return "mqtt-nats-bridge quarantine replay --reason rate_limited --since 1h --dry-run -c bridge.yaml"
}

// Run implements the command.
func (c *quarantineReplay) Run(ctx context.Context, p *program) error {
	o, err := c.options(time.Now())
	if err != nil {
		return cli.UsageError{Err: fmt.Errorf("quarantine replay: %w\nExample: %s", err, c.Example())}
	}
	conf, plan, err := compile(p)
	if err != nil {
		return err
	}
	if conf.Identity.Registry.Kind != config.RegistryNone {
		if err := c.certified(o.Reasons); err != nil {
			return err
		}
	}
	ctx, js, done, err := dialQuarantine(ctx, conf, "-replay")
	if err != nil {
		return err
	}
	defer done()
	o.Reader = quarantine.Reader{JetStream: js, Stream: conf.Streams.Quarantine.Name, Rules: plan.Rules}
	o.MaxPayload = int(conf.Limits.Payload)
	said := 0
	o.Progress = func(r *quarantine.Report) {
		if r.Stored-said >= progressEvery {
			said = r.Stored
			fmt.Fprintf(p.Err, "%d stored so far\n", r.Stored)
		}
	}
	report, err := quarantine.Replay(ctx, o)
	if err == nil || report.Selected > 0 || report.Recovered > 0 {
		result := replayed(report, o.DryRun)
		if c.JSON() {
			if err := cli.PrintJSON(p.Out, result); err != nil {
				return err
			}
		} else {
			result.print(p.Out)
		}
	}
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return fmt.Errorf("%w: streams.quarantine.name must be the stream that the bridge writes to", err)
	}
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w\nUse a NATS user with the permissions in mqtt-nats-bridge quarantine replay --help. Nothing was lost or stored twice", cause)
	}
	if err != nil {
		return fmt.Errorf("%w\nRun it again to continue; nothing is stored twice", err)
	}
	if len(report.Staying) > 0 {
		return cli.ErrReported
	}
	return nil
}

// progressEvery is the number of messages per progress line on standard error.
const progressEvery = 10_000

// options returns the options of the flags.
func (c *quarantineReplay) options(now time.Time) (o quarantine.Options, err error) {
	if len(c.Reason) == 0 {
		return o, fmt.Errorf("--reason is required, one of %s", reasonList())
	}
	o.DryRun = c.DryRun
	o.Filter, err = c.filter(now)
	return o, err
}

// certified rejects reasons whose messages were not checked against the certificate registry. A
// replay does not check the registry either, so it would store messages of a revoked certificate.
func (c *quarantineReplay) certified(reasons []verdict.Reason) error {
	for _, r := range reasons {
		switch r {
		case verdict.PayloadTooLarge, verdict.RateLimited, verdict.TenantRateLimited, verdict.BadPayload, verdict.Refused:
		default:
			return cli.UsageError{Err: fmt.Errorf("quarantine replay: --reason %s: these messages were not checked against the certificate registry (identity.registry), and a replay cannot do it", r)}
		}
	}
	return nil
}

func reasonList() string {
	var tokens []string
	for _, r := range verdict.Reasons() {
		tokens = append(tokens, r.String())
	}
	return strings.Join(tokens, ", ")
}

// moment parses a time, or a duration before now; empty: no time.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := schema.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%s %s: write a duration before now, like 90m, 1h or 7d, or a time like 2026-11-23T12:00:00Z", flag, text)
	}
	return now.Add(-d), nil
}

// replay is the report of a replay.
type replay struct {
	DryRun     bool   `json:"dry_run"`
	Selected   int    `json:"selected"`
	Stored     int    `json:"stored"` // with dry_run: would be
	Duplicates int    `json:"duplicates"`
	Recovered  int    `json:"recovered"`
	Staying    []stay `json:"staying"`
}

type stay struct {
	Reason   string `json:"reason"`
	Messages int    `json:"messages"`
	Example  string `json:"example"`
}

func replayed(r *quarantine.Report, dry bool) replay {
	out := replay{dry, r.Selected, r.Stored, r.Duplicates, r.Recovered, []stay{}}
	reasons := slices.SortedFunc(maps.Keys(r.Staying), func(a, b quarantine.Stay) int { return int(a.Reason) - int(b.Reason) })
	for _, s := range reasons {
		out.Staying = append(out.Staying, stay{s.Reason.String(), r.Staying[s], s.Detail})
	}
	return out
}

func (r replay) print(w io.Writer) {
	if r.Recovered > 0 {
		fmt.Fprintf(w, "%d were stored by an interrupted replay and have now been deleted from quarantine\n", r.Recovered)
	}
	verb := "stored"
	if r.DryRun {
		verb = "would be stored"
	}
	fmt.Fprintf(w, "%d selected, %d %s", r.Selected, r.Stored, verb)
	if r.Duplicates > 0 {
		fmt.Fprintf(w, " (%d of them were already)", r.Duplicates)
	}
	fmt.Fprintln(w)
	for _, s := range r.Staying {
		fmt.Fprintf(w, "%d stay as %s, for instance: %s\n", s.Messages, s.Reason, s.Example)
	}
}

// dialQuarantine connects to NATS under the bridge's client id and a suffix. NATS reports a
// permission violation to the connection, not to the request, which would time out. So the returned
// context ends with the violation as its cause. done must be called.
func dialQuarantine(ctx context.Context, conf *config.Config, suffix string) (_ context.Context, _ natsjs.JetStream, done func(), err error) {
	connect, err := account.Options(conf.NATS.Account, conf.MQTT.ClientID+suffix).Resolve()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, refuse := context.WithCancelCause(ctx)
	connect.Hooks.Error = func(_ *nats.Conn, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refuse(err)
		}
	}
	nc, err := account.Dial(connect)
	if err != nil {
		refuse(nil)
		return nil, nil, nil, err
	}
	done = func() {
		nc.Close()
		refuse(nil)
	}
	js, err := connect.JetStream(nc)
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return ctx, js, done, nil
}
