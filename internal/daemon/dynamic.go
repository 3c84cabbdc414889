package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/overrides"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/registry"
	"mqtt-nats-bridge/jetstream/conn"
)

// dynamic is the configuration that changes while the bridge runs: the limits in their bucket and
// the certificate registry. It uses a separate NATS connection, so that streams and messages do not
// wait for it.
type dynamic struct {
	nc        *nats.Conn          // nil: nothing is followed in NATS
	overrides *overrides.Follower // nil: none
	registry  registry.Source
	// certificates is the table that the registry fills; nil: no registry.
	certificates *certificates.Live
	denied       conn.Violations // of requests about the followed buckets
}

func openDynamic(c *config.Config, connect conn.Options, limits *limit.Live, gaveUp func(error), log zerolog.Logger) (*dynamic, error) {
	l := &dynamic{registry: registry.None{}}
	r := c.Identity.Registry
	if r.Kind != config.RegistryNone {
		l.certificates = certificates.New()
	}
	if r.Kind == config.RegistryPostgres {
		p, err := registry.NewPostgres(registry.PostgresOptions{
			URL: r.DatabaseURL.Reveal(), Current: r.CurrentDatabaseURL, Refresh: r.Refresh, Certificates: l.certificates, Log: log,
		})
		if err != nil {
			return nil, fmt.Errorf("identity.registry.database_url: %w", err)
		}
		l.registry = p
	}
	if c.Limits.Bucket == "" && r.Kind != config.RegistryKV {
		return l, nil
	}
	connect.InitialConnectTimeout = firstWait
	connect.Hooks = conn.Hooks{Closed: gaveUp, Error: func(_ *nats.Conn, err error) { l.denied.Note(err) }}
	nc, err := conn.Connect(connect)
	if err != nil {
		return nil, err
	}
	js, err := connect.JetStream(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	l.nc = nc
	if c.Limits.Bucket != "" {
		l.overrides = overrides.New(overrides.Options{
			Conn: nc, JetStream: js, Denied: &l.denied, Bucket: c.Limits.Bucket, Idle: c.Limits.Idle, Limits: limits, Log: log,
		})
	}
	if r.Kind == config.RegistryKV {
		l.registry = registry.NewKV(registry.KVOptions{
			Conn: nc, JetStream: js, Bucket: r.Bucket, Certificates: l.certificates, Denied: &l.denied, Log: log,
		})
	}
	return l, nil
}

// run starts following the buckets and the registry until ctx ends. wait tracks the goroutines.
func (l *dynamic) run(ctx context.Context, wait *sync.WaitGroup) {
	if l.overrides != nil {
		wait.Go(func() { l.overrides.Run(ctx) })
	}
	wait.Go(func() { l.registry.Run(ctx) })
}

func (l *dynamic) close() {
	if l.nc != nil {
		l.nc.Close()
	}
}

// admit waits until messages may be validated: the registry, if there is one, must have been read
// once. It returns false if ctx ends first.
func (l *dynamic) admit(ctx context.Context) bool {
	select {
	case <-l.registry.Loaded():
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *dynamic) isAdmitted() bool {
	select {
	case <-l.registry.Loaded():
		return true
	default:
		return false
	}
}

// rules returns the rules of the plan, with the registry.
func (l *dynamic) rules(plan *plan.Plan) *bridge.Rules {
	rules := *plan.Rules
	if l.certificates != nil {
		rules.Registry = l.certificates
	}
	return &rules
}

// problems reports a registry that was never read: no message may be accepted.
func (l *dynamic) problems() []Problem {
	s := l.registry.State()
	if l.isAdmitted() {
		return nil
	}
	return []Problem{{
		Component: "registry", Since: s.StaleSince, Advice: s.Advice,
		Problem: "the certificate registry has not been read yet, and no message is taken before it is: " + s.Problem,
	}}
}

// warnings reports conditions that do not keep the bridge from being ready.
func (l *dynamic) warnings() []Problem {
	var all []Problem
	if s := l.registry.State(); s.Stale() && !s.LoadedAt.IsZero() {
		all = append(all, Problem{
			Component: "registry", Since: s.StaleSince, Advice: s.Advice,
			Problem: "the certificate registry is stale, using the last known state: " + s.Problem,
		})
	}
	if p, ok := l.overrides.Warning(); ok {
		all = append(all, p)
	}
	return all
}
