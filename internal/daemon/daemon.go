package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/brokerwatch"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/leafnode"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/streamstatus"
	"mqtt-nats-bridge/internal/tracing"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
	"mqtt-nats-bridge/mqtt"
)

// Options configures a bridge. Config is required.
type Options struct {
	Config  *config.Config
	Log     zerolog.Logger
	Version string

	checkInterval, lookTimeout time.Duration // 0: the default
}

// Bridge is a running bridge.
type Bridge struct {
	opts    Options
	plan    *plan.Plan
	started time.Time
	control *control
	limits  *limit.Live
	dynamic *dynamic
	reloads reloads
	leaf    *leafnode.Node     // nil in client mode
	broker  *brokerwatch.Watch // nil without mqtt.emqx
	streams *streamstatus.Reader
	tracing *tracing.Exporter // nil: no spans
	devices *limit.Budgets
	tenants *limit.Budgets
	lanes   []*laneUnit
	// replicas opens and closes the lanes; nil: they stay open while the bridge runs.
	replicas *replicas

	cancel context.CancelFunc
	wait   sync.WaitGroup
	// ticking is the goroutine that uses the lanes until they are stopped.
	ticking sync.WaitGroup
	fatal   chan error
}

// streamTimeout bounds the wait for the streams before the MQTT sessions are opened. The sessions
// are opened in any case: a broker keeps messages only for a client id with a session.
const streamTimeout = 2 * time.Second

// firstWait bounds the wait for each of the two NATS connections that do not belong to a lane.
// During the wait /livez does not answer, and no signal ends the start.
const firstWait = time.Second

// Open starts a bridge. An unreachable broker or NATS server is not an error: the bridge keeps
// retrying and is not ready. The error is an error in the configuration (*config.Errors) or a
// conflict with the existing streams (streams.ErrContradiction).
func Open(ctx context.Context, opts Options) (*Bridge, error) {
	c := opts.Config
	plan, err := plan.Compile(c)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings() {
		opts.Log.Warn().Str("component", "configuration").Msg(w)
	}
	b, err := open(ctx, opts, plan)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.dynamic.run(run, &b.wait)
	if err := b.startStreams(ctx, run); err != nil {
		b.Close(ctx)
		return nil, err
	}
	b.startLanes(run)
	b.ticking.Go(func() { b.tick(run) })
	if b.broker != nil {
		b.wait.Go(func() { b.broker.Run(run) })
	}
	return b, nil
}

// open returns a bridge with its leaf node and its connections to NATS, which may still be
// connecting. It starts nothing else.
func open(ctx context.Context, opts Options, plan *plan.Plan) (*Bridge, error) {
	c := opts.Config
	limits, err := limit.NewLive(plan.Limits, nil)
	if err != nil {
		return nil, err
	}
	b := &Bridge{opts: opts, plan: plan, started: time.Now(), limits: limits, reloads: reloads{running: c}, fatal: make(chan error, 1)}
	b.control, err = openControl(account.Options(c.NATS.Account, c.MQTT.ClientID+"-control"), b.fail, opts.Log)
	if err != nil {
		return nil, err
	}
	b.control.lookTimeout = cmp.Or(opts.lookTimeout, lookTimeout)
	b.control.reconciler = b.control.newReconciler(streams.ManageMode(c.Streams.Manage), plan, cmp.Or(opts.checkInterval, checkInterval))
	b.dynamic, err = openDynamic(c, account.Options(c.NATS.Account, c.MQTT.ClientID+"-live"), limits, b.fail, opts.Log)
	if err != nil {
		b.control.nc.Close()
		return nil, err
	}
	b.leaf, err = leafnode.Open(ctx, c, plan, b.control.hub(), opts.Log)
	if err != nil {
		b.dynamic.close()
		b.control.nc.Close()
		return nil, err
	}
	b.streams = streamstatus.New(streamstatus.Options{
		JetStream: b.control.js, Denied: &b.control.denied, Streams: plan.Streams, Consumers: plan.Consumers,
	})
	b.broker = brokerwatch.New(c, plan.Lanes, b.isElsewhere, opts.Log)
	b.tracing = openTracing(c, opts.Version, opts.Log)
	table := limit.BudgetOptions{Max: c.Limits.MaxDevices, Idle: c.Limits.Idle}
	b.tenants = limit.NewBudgets(table)
	table.Tenants = c.Metrics.Tenants
	b.devices = limit.NewBudgets(table)
	return b, nil
}

// startStreams reconciles the streams until run ends, and waits for the first result, at most
// streamTimeout. The error is a conflict, or the error of ctx.
func (b *Bridge) startStreams(ctx, run context.Context) error {
	mode := streams.ManageMode(b.opts.Config.Streams.Manage)
	if mode == streams.ManageOff {
		b.control.streams.Clear() // their state is not checked
		b.control.looked.Store(true)
	}
	b.wait.Go(func() {
		if sleep.For(run, b.control.lookTimeout) {
			b.control.looked.Store(true) // perhaps only control cannot connect
		}
	})
	if b.leaf != nil { // lanes store locally, independent of the hub
		b.wait.Go(func() { b.leaf.Run(run) })
		return nil
	}
	looked := make(chan error, 1)
	b.wait.Go(func() {
		err := b.control.reconciler.Ensure(run)
		looked <- err
		if err == nil {
			b.control.reconciler.Run(run)
		}
	})
	if mode == streams.ManageOff {
		return nil // the lanes do not wait for the streams
	}
	select {
	case err := <-looked:
		return err
	case <-time.After(streamTimeout):
		b.wait.Go(func() { b.fail(<-looked) })
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startLanes opens each lane as soon as it is admitted, until run ends.
func (b *Bridge) startLanes(run context.Context) {
	c := b.opts.Config
	for _, l := range b.plan.Lanes {
		u := newLaneUnit(l, b.opts.Log, b.control.lanes)
		u.leased = c.Lanes.Partitions.Auto
		b.lanes = append(b.lanes, u)
	}
	shared := &laneShared{
		config: c, rules: b.dynamic.rules(b.plan), limits: b.limits, devices: b.devices, tenants: b.tenants,
		nats:               account.Options(c.NATS.Account, ""),
		peers:              mqtt.NewPeers(len(b.plan.Lanes)),
		noStreamForSubject: func(subject string) bool { return b.control.noStreamForSubject(run, b.plan, subject) },
	}
	shared.lookup = b.control.lookupOptions(b.plan)
	shared.tracing = b.laneTracing()
	shared.fenced = func() bool { return !b.control.looked.Load() }
	if b.leaf != nil {
		shared.nats, shared.local = conn.Options{}, b.leaf.InProcess()
		shared.noStreamForSubject = nil              // the local store accepts every subject
		shared.fenced = func() bool { return false } // its streams exist before the lanes
	}
	if c.Lanes.Partitions.Auto {
		b.replicas = startReplicas(b, shared)
		return
	}
	for _, u := range b.lanes {
		b.wait.Go(func() {
			if b.dynamic.admit(run) && b.leaf.Await(run) {
				b.fail(u.run(run, shared))
			}
		})
	}
}

// isElsewhere reports whether the partition of a lane is not leased by this replica.
func (b *Bridge) isElsewhere(clientID string) bool {
	for _, u := range b.lanes {
		if u.plan.ClientID == clientID {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.leased && !u.owned
		}
	}
	return false
}

func (b *Bridge) fail(err error) {
	if err == nil {
		return
	}
	select {
	case b.fatal <- err:
	default:
	}
}

// Failed delivers an error that only a restart can fix: a conflict that was found only after the
// start, or a connection that nats.go closed permanently.
func (b *Bridge) Failed() <-chan error { return b.fatal }

// tick calls Lane.Tick once per second.
func (b *Bridge) tick(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	log := warningLog{log: b.opts.Log}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, u := range b.lanes {
				if lane, _, _ := u.parts(); lane != nil {
					lane.Tick()
				}
				u.watch()
				u.noteStrays(time.Now())
			}
			log.note(b.laneWarnings(time.Now()))
		}
	}
}

// closeTimeout bounds what Close does after the wait for messages in flight. During an attempt to
// connect, nats.go closes no connection, and an attempt takes up to 5 s per server that does not
// answer.
const closeTimeout = 2 * time.Second

// Close stops the bridge. It waits for messages in flight, at most stop_timeout or until ctx ends,
// and then at most closeTimeout for the connections. The error reports the abandoned messages,
// which the broker redelivers, and connections that are not closed yet. In leaf mode the local
// store is closed in any case.
func (b *Bridge) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.opts.Config.StopTimeout)
	defer cancel()
	closing, end := context.WithCancel(context.Background())
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closeTimeout, end) })()

	b.cancel()
	left := 0
	closed := sleep.Await(closing, func() {
		b.ticking.Wait()
		left = b.stopLanes(ctx)
	})
	abandoned := 0
	if closed {
		abandoned = left
	} else { // left may still be written
		abandoned = b.Totals().InFlight
	}
	closed = sleep.Await(closing, b.wait.Wait) && closed
	err := b.leaf.Close()
	closed = sleep.Await(closing, func() {
		b.control.nc.Close()
		b.dynamic.close()
		b.tracing.Close(ctx)
	}) && closed
	if !closed {
		err = errors.Join(err, ErrNotClosed)
	}
	if abandoned > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d messages were not stored in time; the broker keeps them", ErrAbandoned, abandoned))
	}
	return err
}

// stopLanes stops all lanes concurrently and returns how many messages were not stored.
func (b *Bridge) stopLanes(ctx context.Context) (abandoned int) {
	if b.replicas != nil {
		return b.replicas.leases.Close(ctx)
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, u := range b.lanes {
		wait.Go(func() {
			n := u.stop(ctx)
			mu.Lock()
			defer mu.Unlock()
			abandoned += n
		})
	}
	wait.Wait()
	return abandoned
}

// ErrAbandoned means that messages were still in flight when the bridge stopped.
var ErrAbandoned = errors.New("stopped before everything was stored")

// ErrNotClosed means that a connection was not closed in time. It ends with the process.
var ErrNotClosed = errors.New("stopped before every connection was closed")

// Problem is the reason why a part of the bridge is not ready.
type Problem = health.Problem

// Problems lists everything that keeps the bridge from being ready. A problem of several lanes is
// listed once. An unreachable NATS server is listed once, not again for the connection of each
// lane.
func (b *Bridge) Problems() []Problem {
	var all []Problem
	if b.leaf == nil {
		all = b.control.problems()
	} else {
		all = b.leaf.Problems()
	}
	natsDown := len(all) > 0 && all[0].Component == "nats"
	if b.replicas != nil {
		all = append(all, b.replicas.problems(natsDown)...)
	}
	all = append(all, b.dynamic.problems()...)
	for _, u := range b.lanes {
		for _, p := range u.problems() {
			if natsDown && p.Component == "nats" {
				p.Problem = all[0].Problem
			}
			all = health.Merge(all, p)
		}
	}
	return all
}
