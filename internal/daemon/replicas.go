package daemon

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/mqtt"
)

// replicas opens a lane while this replica leases its partition; the partitions are shared with
// other replicas. It implements [lease.Lanes].
type replicas struct {
	bridge *Bridge
	shared *laneShared
	leases *lease.Coordinator
	units  map[string]*laneUnit // by partition
	id     string               // of this replica
}

func startReplicas(b *Bridge, shared *laneShared) *replicas {
	c := shared.config
	r := &replicas{
		bridge: b, shared: shared,
		units: map[string]*laneUnit{}, id: strings.ToLower(rand.Text()[:8]),
	}
	for i, p := range c.Lanes.Partitions.List {
		r.units[p] = b.lanes[i]
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r.leases = lease.Open(lease.Options{
		Store: lease.NewBucket(plan.LeaseBucket(c, b.control.nc, b.control.js)),
		Lanes: r, Partitions: c.Lanes.Partitions.List, DrainTimeout: c.StopTimeout, Admitted: b.dynamic.registry.Loaded(),
		Replica: lease.Replica{
			ID: r.id, Host: host, Version: b.opts.Version, Broker: plan.BrokerIdentity(c, host),
			Started: b.started.UTC().Truncate(time.Millisecond),
		},
		Advice: mqttaccount.Advice, Log: b.opts.Log,
	})
	return r
}

// Open implements [lease.Lanes].
func (r *replicas) Open(p string, l *lease.Lease, hadSession bool) {
	r.units[p].acquire(r, l, hadSession)
}

// Connected implements [lease.Lanes].
func (r *replicas) Connected(p string) bool { return r.units[p].connected() }

// Close implements [lease.Lanes].
func (r *replicas) Close(ctx context.Context, p string) (abandoned int) {
	return r.units[p].release(ctx)
}

// Abandon implements [lease.Lanes].
func (r *replicas) Abandon(p string) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	r.units[p].release(ended)
}

// ProbeBroker implements [lease.Lanes].
func (r *replicas) ProbeBroker(ctx context.Context) error {
	m := &r.shared.config.MQTT
	return mqtt.Reach(ctx, mqttaccount.Options(*m, m.ClientID+"-probe-"+r.id))
}
