package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// answerTimeout bounds each request to JetStream.
const answerTimeout = 5 * time.Second

// headerAllowance is the maximum size in bytes that subject, headers and the envelope add to a
// payload: topic, CN and reason, each at most 1 KiB, with room for escapes.
const headerAllowance = 16 << 10

// NATS checks that NATS can be reached, accepts the credentials, has JetStream, and grants every
// permission that the bridge needs. Each step requires that the previous one succeeded.
func NATS(ctx context.Context, c *config.Config, plan *plan.Plan, r *Report) {
	n := &natsCheck{config: c, plan: plan, report: r}
	if err := n.connect(); err != nil {
		r.Fail("nats", "%v", err)
		return
	}
	defer n.nc.Close()
	if ctx.Err() != nil {
		return
	}
	transport := "plain text"
	if state, err := n.nc.TLSConnectionState(); err == nil {
		transport = tls.VersionName(state.Version)
	}
	r.OK("nats", "connected to %s, nats-server %s, %s", n.nc.ConnectedUrlRedacted(), n.nc.ConnectedServerVersion(), transport)
	if !n.inbox(ctx) {
		return
	}
	leaf := c.NATS.Mode == config.LeafMode
	if leaf {
		n.hub()
		link(ctx, c, r)
	} else {
		n.payload()
	}
	missing, ok := n.streams(ctx)
	if !ok {
		return
	}
	n.account(ctx, missing)
	for _, s := range missing {
		n.mayCreate(ctx, "stream "+s.Name, s.Name)
	}
	if !leaf { // messages are published within the bridge
		n.publish(ctx)
		n.lookups(ctx)
	}
	n.buckets(ctx)
	n.leases(ctx)
}

type natsCheck struct {
	config *config.Config
	plan   *plan.Plan
	report *Report
	nc     *nats.Conn
	js     natsjs.JetStream
	api    string // of JetStream, at the domain

	violations conn.Violations // of permissions
}

func (n *natsCheck) connect() error {
	options, err := account.Options(n.config.NATS.Account, n.config.MQTT.ClientID+"-check").Resolve()
	if err != nil {
		return fmt.Errorf("%w: fix the files or settings under nats in the configuration", err)
	}
	options.Hooks.Error = func(_ *nats.Conn, err error) { n.violations.Note(err) }
	if n.api, err = options.API(); err != nil {
		return err
	}
	if n.nc, err = account.Dial(options); err != nil {
		return err
	}
	if n.js, err = options.JetStream(n.nc); err != nil {
		n.nc.Close()
	}
	return err
}

// inbox checks the permission for the reply inbox. Without it, all answers of JetStream are lost.
func (n *natsCheck) inbox(ctx context.Context) bool {
	subject := n.nc.NewInbox() + ".>"
	sub, err := n.nc.SubscribeSync(subject)
	if err == nil {
		defer func() { _ = sub.Unsubscribe() }()
		// The server answers in order, so a permission violation arrives before the PONG.
		bounded, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		err = n.nc.FlushWithContext(bounded)
	}
	if denied := conn.Permission(n.nc.LastError()); err == nil && denied != nil {
		err = denied
	}
	if err != nil {
		n.report.Fail("nats inbox", "replies cannot be received: %v: allow the user to subscribe to its inboxes, or set nats.inbox_prefix to a permitted prefix", err)
		return false
	}
	return true
}

// payload compares the server's payload limit with the configured one.
func (n *natsCheck) payload() {
	limit, want := n.nc.MaxPayload(), int64(n.config.Limits.Payload)+headerAllowance
	if limit < want {
		n.report.Fail("nats max_payload", "the server accepts %s, but limits.payload and headers need up to %s: raise max_payload in the server's configuration or lower limits.payload, otherwise such messages are quarantined as refused",
			size(limit), size(want))
		return
	}
	n.report.OK("nats max_payload", "%s, at most %s are needed", size(limit), size(want))
}

// size formats a number of bytes exactly.
func size[N int64 | uint64](n N) string {
	if text := config.Bytes(n).String(); strings.HasSuffix(text, "B") {
		return text
	}
	return fmt.Sprintf("%d bytes", n)
}

// account compares the storage that missing streams reserve with the account's limit.
func (n *natsCheck) account(ctx context.Context, missing []streams.Spec) {
	info, err := ask(ctx, n, n.js.AccountInfo)
	if err != nil {
		n.report.Note("jetstream account", "its limits could not be read: %v", err)
		return
	}
	var want int64
	for _, s := range missing {
		want += s.MaxBytes * int64(max(s.Replicas, 1))
	}
	limit := info.Limits.MaxStore
	switch free := limit - int64(max(info.Store, info.ReservedStore)); {
	case limit < 0:
		n.report.OK("jetstream account", "%d streams, %s stored, the account has no storage limit of its own", info.Streams, size(info.Store))
	case want > free:
		n.report.Fail("jetstream account", "the streams to be created reserve %s and the account has %s left: raise its limit or lower streams.*.max_bytes", size(want), size(free))
	default:
		n.report.OK("jetstream account", "%d streams, %s of %s left", info.Streams, size(free), size(limit))
	}
}
