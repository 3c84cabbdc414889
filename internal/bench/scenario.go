package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"mqtt-nats-bridge/internal/measure"
	"mqtt-nats-bridge/internal/port"
)

// Scenario is one configuration of the bridge and its load.
type Scenario struct {
	Name     string
	Attested bool // attested topics with the identity check; otherwise plain topics
	Lanes    int
	Devices  int
	Window   int // messages in flight per lane
	Messages int
	Rate     int // messages per second, all lanes together; 0: unlimited
	// Leaf means that the bridge embeds a nats-server and stores messages on its own disk; the
	// server sources from it. The CPU times then include the sourcing of all messages.
	Leaf bool
	// Replicas is the number of replicas of the streams, and of servers; 0: one server. With more
	// than one, the bridge uses strict order.
	Replicas int
}

// Result is the result of one run of a scenario.
type Result struct {
	Scenario  Scenario
	PerSecond float64
	BridgeCPU time.Duration // per message
	ServerCPU time.Duration // per message
	Allocs    float64       // per message, in the whole bridge process
	IdleRSS   int64         // bytes, when connected, before the first message
	RSS       int64         // bytes, at the end
	P50, P99  time.Duration // from the broker writing the PUBLISH to reading the PUBACK
}

// bench is the state that all runs of one call share.
type bench struct {
	opts    Options
	dir     string
	servers *servers
}

// run measures the bridge in one scenario.
func (b *bench) run(ctx context.Context, s Scenario) (res Result, err error) {
	load, err := newLoad(s, b.opts.Size)
	if err != nil {
		return res, err
	}
	defer load.close()
	state, err := os.MkdirTemp(b.dir, "state")
	if err != nil {
		return res, err
	}
	listen, release, err := port.Reserve()
	if err != nil {
		return res, err
	}
	defer release()
	admin := listen.String()
	bridge, err := measure.Start(ctx, b.environment(s, load.address(), state, admin), "run")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, bridge.Stop()) }()
	conns, err := load.await(20 * time.Second)
	if err != nil {
		return res, fmt.Errorf("%w; log of the bridge: %s", err, bridge.LogTail())
	}
	if err := measure.AwaitReady(admin, 10*time.Second); err != nil {
		return res, err
	}
	res.Scenario = s
	if res.IdleRSS, err = bridge.RSS(); err != nil {
		return res, err
	}
	before, err := b.sample(bridge, admin)
	if err != nil {
		return res, err
	}
	stopProfile := b.profile(admin, s)
	begin := time.Now()
	errs := make(chan error, len(conns))
	for i, c := range conns {
		if s.Rate > 0 {
			c.latency = make([]time.Duration, 0, s.Messages/len(conns)+1)
		}
		go func() { errs <- c.blast(i, s.Messages/len(conns), s.Rate/len(conns)) }()
	}
	for range conns {
		err = errors.Join(err, <-errs)
	}
	elapsed := time.Since(begin)
	stopProfile()
	if err = errors.Join(err, load.failed()); err != nil {
		return res, fmt.Errorf("%w; log of the bridge: %s", err, bridge.LogTail())
	}
	if s.Leaf {
		if err := awaitSourced(admin, time.Minute); err != nil {
			return res, err
		}
	}
	after, err := b.sample(bridge, admin)
	if err != nil {
		return res, err
	}
	n := s.Messages / len(conns) * len(conns)
	if stored := int(after.stored - before.stored); stored != n {
		return res, fmt.Errorf("%d messages sent and acknowledged, %d stored", n, stored)
	}
	res.PerSecond = float64(n) / elapsed.Seconds()
	res.BridgeCPU = (after.bridge - before.bridge) / time.Duration(n)
	res.ServerCPU = (after.server - before.server) / time.Duration(n)
	res.Allocs = (after.mallocs - before.mallocs) / float64(n)
	res.RSS, err = bridge.RSS()
	res.P50, res.P99 = quantiles(conns)
	return res, err
}

// awaitSourced waits until the hub has all messages that the bridge stored.
func awaitSourced(admin string, timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(100 * time.Millisecond) {
		left, err := measure.Metric(admin, "mqttbridge_leaf_backlog_messages")
		switch {
		case err != nil:
			return err
		case left == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%.0f messages did not reach the hub within %s", left, timeout)
		}
	}
}

// environment returns a realistic configuration of the bridge: journal on disk, identity check and
// limiter on, with limits that are never reached.
func (b *bench) environment(s Scenario, broker, state string, admin string) []string {
	env := []string{
		"MQTT_URL=mqtt://" + broker, "NATS_URL=" + b.servers.url,
		"BRIDGE_ADMIN_LISTEN=" + admin, "BRIDGE_STATE_DIR=" + state,
		"BRIDGE_LIMITS_DEVICE_RATE=1000000", "BRIDGE_LIMITS_DEVICE_BURST=1000000",
		"BRIDGE_LIMITS_MAX_DEVICES=2000000",
		"BRIDGE_LOG_LEVEL=warn", "BRIDGE_LOG_FORMAT=json",
		"BRIDGE_STREAMS_TELEMETRY_MAX_BYTES=4GiB",
		"BRIDGE_LANE_LINGER=" + b.opts.Linger.String(),
	}
	if s.Replicas > 1 {
		env = append(env, "BRIDGE_STREAMS_REPLICAS="+strconv.Itoa(s.Replicas))
	}
	if s.Leaf {
		env = append(env, "BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_URL="+b.servers.leaf, "BRIDGE_NATS_LEAF_DOMAIN=bench",
			"BRIDGE_NATS_LEAF_STORE_DIR="+filepath.Join(state, "leaf"))
	}
	if s.Attested {
		return append(env, "BRIDGE_LANES_PARTITIONS=0-"+partition(s.Lanes-1))
	}
	return append(env, "BRIDGE_IDENTITY_MODE=off")
}

// sample contains the figures that are read before and after a run.
type sample struct {
	bridge, server  time.Duration
	mallocs, stored float64
}

func (b *bench) sample(bridge *measure.Process, admin string) (s sample, err error) {
	var errs [4]error
	s.bridge, errs[0] = bridge.CPU()
	s.server, errs[1] = b.servers.cpu()
	s.mallocs, errs[2] = measure.Metric(admin, "go_memstats_mallocs_total")
	s.stored, errs[3] = measure.Metric(admin, "mqttbridge_stored_total")
	return s, errors.Join(errs[:]...)
}

// bare runs the bare publisher.
func (b *bench) bare(ctx context.Context, s Scenario) (perSecond float64, cpu time.Duration, err error) {
	p, err := measure.Start(ctx, nil, "bench-bare", "--url", b.servers.url, "--messages", strconv.Itoa(s.Messages),
		"--size", strconv.Itoa(b.opts.Size), "--window", strconv.Itoa(s.Window), "--devices", strconv.Itoa(s.Devices),
		"--attested="+strconv.FormatBool(s.Attested))
	if err != nil {
		return 0, 0, err
	}
	var r bareResult
	if err := measure.ReadJSON(p, &r); err != nil {
		return 0, 0, err
	}
	return float64(s.Messages) / r.Seconds, time.Duration(r.CPU * 1e9 / float64(s.Messages)), nil
}

func quantiles(conns []*loadConn) (p50, p99 time.Duration) {
	var all []time.Duration
	for _, c := range conns {
		all = append(all, c.latency...)
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// profile takes a CPU profile of the running bridge, if requested.
func (b *bench) profile(admin string, s Scenario) (wait func()) {
	if b.opts.Profile == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		name := filepath.Join(b.opts.Profile, measure.FileName(s.Name)+".pprof")
		if err := measure.Fetch("http://"+admin+"/debug/pprof/profile?seconds=3", name); err != nil {
			fmt.Fprintln(b.opts.Out, "profile:", err)
		}
	}()
	return func() { <-done }
}
