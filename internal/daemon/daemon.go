package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/jetstream"
)

// Options of a bridge. Config is required.
type Options struct {
	Config  *config.Config
	Log     zerolog.Logger
	Version string
}

// Bridge is a running bridge.
type Bridge struct {
	opts    Options
	plan    *Plan
	started time.Time
	control *control
	limits  *bridge.LiveLimits
	live    *live
	reloads reloads
	leaf    *leafUnit // nil in client mode
	devices *bridge.Devices
	tenants *bridge.Devices
	lanes   []*laneUnit
	// replicas opens and closes the lanes; nil: they are open as long as the
	// bridge runs.
	replicas *replicas

	cancel context.CancelFunc
	wait   sync.WaitGroup
	fatal  chan error
}

// streamPatience is how long the start waits for the streams before the MQTT
// sessions are opened without them. They are opened in any case: a broker keeps
// messages only for a client id that it knows.
const streamPatience = 2 * time.Second

// Start starts a bridge. A broker or a NATS server that cannot be reached is no
// error: the bridge goes on trying and is not ready. An error is a fault in the
// configuration (*config.Faults) or a contradiction between it and the streams
// that are there (jetstream.ErrContradiction).
func Start(ctx context.Context, opts Options) (*Bridge, error) {
	c := opts.Config
	plan, err := Compile(c)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := c.MQTT.TLSConfig()
	if err != nil {
		return nil, err
	}
	limits, err := bridge.NewLiveLimits(plan.Limits, nil)
	if err != nil {
		return nil, err
	}
	connect := ConnectOptions(c, c.MQTT.ClientID+"-control")
	for _, w := range c.Warnings() {
		opts.Log.Warn().Msg(w)
	}
	control, err := openControl(connect, opts.Log)
	if err != nil {
		return nil, err
	}
	connect.Name = c.MQTT.ClientID + "-live"
	live, err := openLive(c, connect, limits, opts.Log)
	if err != nil {
		control.nc.Close()
		return nil, err
	}
	leaf, err := openLeaf(ctx, c, plan, control, opts.Log)
	if err != nil {
		live.close()
		control.nc.Close()
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	table := bridge.DevicesOptions{Max: c.Limits.MaxDevices, Idle: c.Limits.Idle}
	b := &Bridge{
		opts: opts, plan: plan, started: time.Now(), control: control, leaf: leaf,
		limits: limits, live: live, reloads: reloads{running: c}, devices: bridge.NewDevices(table), tenants: bridge.NewDevices(table),
		cancel: cancel, fatal: make(chan error, 1),
	}
	sessions := newChorus(opts.Log, len(plan.Lanes))
	for _, l := range plan.Lanes {
		u := newLaneUnit(l, opts.Log, sessions)
		u.leased = c.Lanes.Partitions.Auto
		b.lanes = append(b.lanes, u)
	}
	live.run(run, &b.wait)
	streams := make(chan error, 1)
	b.wait.Go(func() {
		mode := jetstream.ManageMode(c.Streams.Manage)
		if leaf != nil {
			streams <- nil
			leaf.manageStreams(run, mode, plan)
			return
		}
		err := control.ensureStreams(run, mode, plan)
		streams <- err
		if err == nil {
			control.watchStreams(run, mode, plan)
		}
	})
	select {
	case err := <-streams:
		if err != nil {
			b.Stop(ctx)
			return nil, err
		}
	case <-time.After(streamPatience):
		b.wait.Go(func() { b.fail(<-streams) })
	case <-ctx.Done():
		b.Stop(ctx)
		return nil, ctx.Err()
	}
	shared := &laneShared{
		config: c, tls: tlsConfig, rules: live.rules(plan), limits: b.limits, devices: b.devices, tenants: b.tenants, nats: connect,
		unheld: func(subject string) bool { return control.unheld(run, plan, subject) },
	}
	b.laneLink(shared)
	if leaf != nil {
		b.wait.Go(func() { leaf.run(run) })
	}
	if c.Lanes.Partitions.Auto {
		b.replicas = startReplicas(b, shared, sessions)
	} else {
		for _, u := range b.lanes {
			b.wait.Go(func() {
				if live.admit(run) && (leaf == nil || leaf.await(run)) {
					b.fail(u.run(run, shared))
				}
			})
		}
	}
	b.wait.Go(func() { b.tick(run) })
	return b, nil
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

// Failed delivers an error that the bridge cannot go on after: a contradiction
// found only after the start.
func (b *Bridge) Failed() <-chan error { return b.fatal }

// tick has the lanes note once a second that they live.
func (b *Bridge) tick(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
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
			}
		}
	}
}

// Stop takes the bridge down and waits, at most the configured stop_timeout or
// until ctx ends for messages under way. The error says what was abandoned: it
// stays with the broker, which delivers it again.
func (b *Bridge) Stop(ctx context.Context) error {
	b.cancel()
	b.wait.Wait()
	ctx, cancel := context.WithTimeout(ctx, b.opts.Config.StopTimeout)
	defer cancel()
	abandoned := b.stopLanes(ctx)
	b.control.nc.Close()
	b.live.close()
	err := b.leaf.close()
	if abandoned > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d messages were not stored in time; the broker keeps them", ErrAbandoned, abandoned))
	}
	return err
}

// stopLanes takes all lanes down at once and returns how many messages were left.
func (b *Bridge) stopLanes(ctx context.Context) (abandoned int) {
	if b.replicas != nil {
		return b.replicas.keeper.Stop(ctx)
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

// ErrAbandoned: messages were still under way when the bridge stopped.
var ErrAbandoned = errors.New("stopped before everything was stored")

// Problem is why a part of the bridge is not ready.
type Problem = endpoint.Problem

// Problems lists everything that keeps the bridge from being ready: the same
// problem of several lanes once, and a NATS server that is away once, not also
// as what each lane's own connection makes of it.
func (b *Bridge) Problems() []Problem {
	all := b.natsProblems()
	natsDown := len(all) > 0 && all[0].Component == "nats"
	if b.replicas != nil {
		all = append(all, b.replicas.problems(natsDown)...)
	}
	all = append(all, b.live.problems()...)
	seen := map[string]int{}
	for _, u := range b.lanes {
		for _, p := range u.problems() {
			key := p.Component + "\x00" + p.Problem
			i, ok := seen[key]
			if natsDown && p.Component == "nats" {
				i, ok = 0, true
			}
			if !ok {
				seen[key] = len(all)
				all = append(all, p)
				continue
			}
			all[i].Lanes = append(all[i].Lanes, p.Lanes...)
			if p.Since.Before(all[i].Since) {
				all[i].Since = p.Since
			}
		}
	}
	return all
}
