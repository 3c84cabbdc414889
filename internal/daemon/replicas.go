package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/lanelog"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/mqtt"
)

// replicas is this bridge among others that share the partitions: a lane is open
// while this replica leases its partition. It implements [lease.Lanes].
type replicas struct {
	bridge   *Bridge
	shared   *laneShared
	sessions *lanelog.Sessions
	leases   *lease.Coordinator
	units    map[string]*laneUnit // by partition
	ids      []string             // the partitions, in the order of the lanes
	id       string               // of this replica
}

// leaseAdvice is what can be done about the leases' problems, in the log and in /readyz.
func leaseAdvice() lease.Advice {
	return lease.Advice{
		Bucket: func(err error) string {
			return cmp.Or(advice.For(err), "it keeps its current leases; see mqtt-nats-bridge check --connect")
		},
		Broker:      mqttaccount.Advice,
		OtherBroker: func(error) string { return plan.OtherBrokerAdvice },
	}
}

func startReplicas(b *Bridge, shared *laneShared, sessions *lanelog.Sessions) *replicas {
	c := shared.config
	r := &replicas{
		bridge: b, shared: shared, sessions: sessions,
		units: map[string]*laneUnit{}, ids: c.Lanes.Partitions.List,
		id: strings.ToLower(rand.Text()[:8]),
	}
	for i, p := range r.ids {
		r.units[p] = b.lanes[i]
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r.leases = lease.Open(lease.Options{
		Store: lease.NewBucket(plan.LeaseBucket(c, b.control.nc, b.control.js)),
		Lanes: r, Partitions: r.ids, DrainTimeout: c.StopTimeout, Admitted: b.dynamic.admitted(),
		Replica: lease.Replica{
			ID: r.id, Host: host, Version: b.opts.Version, Broker: plan.BrokerIdentity(c, host),
			Started: b.started.UTC().Truncate(time.Millisecond),
		},
		Advice: leaseAdvice(), Log: b.opts.Log,
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
	return r.units[p].release(ctx, r.sessions)
}

// Abandon implements [lease.Lanes].
func (r *replicas) Abandon(p string) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	r.units[p].release(ended, r.sessions)
}

// ProbeBroker implements [lease.Lanes].
func (r *replicas) ProbeBroker(ctx context.Context) error {
	m := &r.shared.config.MQTT
	return mqtt.Reach(ctx, mqttaccount.Options(*m, m.ClientID+"-probe-"+r.id))
}

// unleasedAfter is how long a partition may be unleased before that is a problem: it
// is so for a moment whenever one moves.
const unleasedAfter = 5 * time.Second

// problems lists what keeps the partitions from being shared out. Which lanes
// another replica has, and how they do, is its own affair.
func (r *replicas) problems(natsDown bool) []Problem {
	if !r.bridge.dynamic.isAdmitted() {
		return nil // nothing is asked of the leases yet; the reason is given
	}
	s := r.leases.Status()
	about := leaseAdvice()
	problem := func(text, advice string, since time.Time) Problem {
		return Problem{Component: "leases", Problem: text, Advice: advice, Since: since}
	}
	switch {
	case s.Problem != "" && natsDown:
		return nil // the reason is given
	case s.Problem != "":
		return []Problem{problem("the leases cannot be reached: "+s.Problem, about.Bucket(s.Err), s.Since)}
	case !s.Settled:
		return []Problem{problem("the partitions have not been shared out yet", "", r.bridge.started)}
	}
	var all []Problem
	if len(s.Elsewhere) > 0 {
		other := s.Elsewhere[0]
		all = append(all, problem(fmt.Sprintf("replica %s at %s has the same client id and connects to another broker, %s (this one: %s): the partitions it leases are served at one broker only",
			other.ID, other.Host, other.Broker, s.Replica.Broker), plan.OtherBrokerAdvice, later(other.Started, r.bridge.started)))
	}
	if s.Unreached != nil {
		p := problem("this replica's lanes cannot reach the broker, and it leaves the partitions to those that can: "+neterror.WithoutLocalAddress(s.Unreached.Error()),
			about.Broker(s.Unreached), s.UnreachedSince)
		p.Component = "mqtt"
		all = append(all, p)
	}
	var idle Problem
	for i, p := range s.Partitions {
		if p.Owner != "" || time.Since(p.Since) < unleasedAfter {
			continue
		}
		if idle.Since.IsZero() || p.Since.Before(idle.Since) {
			idle.Since = p.Since
		}
		idle.Lanes = append(idle.Lanes, r.bridge.lanes[i].plan.ClientID)
	}
	if len(idle.Lanes) == 0 {
		return all
	}
	lanes := idle.Lanes
	idle = problem(fmt.Sprintf("%d partitions are leased by no replica: what their devices send waits at the broker", len(lanes)),
		"it passes when the lease of a dead replica expires; if it does not, see the replicas' logs", idle.Since)
	idle.Lanes = lanes
	return append(all, idle)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ReplicasStatus is this replica and the others.
type ReplicasStatus struct {
	Replica    string  `json:"replica"` // this one
	Bucket     string  `json:"bucket"`
	TTLSeconds float64 `json:"ttl_seconds"`
	Leased     int     `json:"held"`
	Taken      uint64  `json:"taken"`
	HandedOver uint64  `json:"handed_over"`
	Lost       uint64  `json:"lost"`
	// All lists those heard of within the TTL.
	All []ReplicaStatus `json:"all"`
}

// ReplicaStatus is one of them.
type ReplicaStatus struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	Connected  bool      `json:"connected"` // to the broker, by one lane at least
	Leaving    bool      `json:"leaving,omitempty"`
	Partitions string    `json:"partitions"`
}

// LeaseStatus describes the lease of a lane's partition.
type LeaseStatus struct {
	Owner string `json:"holder"` // a replica; empty: none
	Host  string `json:"host,omitempty"`
	// Here reports that the owner is this replica.
	Here  bool      `json:"here"`
	Since time.Time `json:"since"` // of this owner, or of having none
	// Leaving reports that the lane drains and the partition moves to another replica.
	Leaving bool `json:"leaving,omitempty"`
}

// status returns a lease for each lane, too.
func (r *replicas) status() (*ReplicasStatus, []LeaseStatus) {
	k := r.leases.Status()
	s := &ReplicasStatus{
		Replica: k.Replica.ID, Bucket: r.shared.config.Lanes.Bucket, TTLSeconds: k.TTL.Seconds(),
		Leased: k.Leased(), Taken: k.Acquired, HandedOver: k.Released, Lost: k.Lost, All: []ReplicaStatus{},
	}
	leased := map[string]*config.Partitions{}
	var leases []LeaseStatus
	for _, p := range k.Partitions {
		leases = append(leases, LeaseStatus{
			Owner: p.Owner, Host: p.Host, Here: p.Owner == k.Replica.ID, Since: p.Since.UTC(), Leaving: p.Leaving,
		})
		if leased[p.Owner] == nil {
			leased[p.Owner] = &config.Partitions{}
		}
		leased[p.Owner].List = append(leased[p.Owner].List, p.Partition)
	}
	for _, other := range k.Replicas {
		line := ReplicaStatus{ID: other.ID, Host: other.Host, Version: other.Version, Started: other.Started, Connected: other.Connected, Leaving: other.Leaving}
		if p := leased[other.ID]; p != nil {
			line.Partitions = p.String()
		}
		s.All = append(s.All, line)
	}
	slices.SortFunc(s.All, func(a, b ReplicaStatus) int { return a.Started.Compare(b.Started) })
	return s, leases
}

// leaseMetric is a metric of a bridge with leases.
type leaseMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*lease.Status) float64
}

func leaseMetrics() []leaseMetric {
	gauge := func(name, help string, value func(*lease.Status) float64) leaseMetric {
		return leaseMetric{describe(name, help), prometheus.GaugeValue, value}
	}
	counter := func(name, help string, value func(*lease.Status) uint64) leaseMetric {
		return leaseMetric{describe(name, help), prometheus.CounterValue, func(s *lease.Status) float64 { return float64(value(s)) }}
	}
	return []leaseMetric{
		gauge("replicas", "Replicas seen within the TTL of the leases, this one included.",
			func(s *lease.Status) float64 { return float64(len(s.Replicas)) }),
		gauge("partitions_held", "Partitions leased by this replica.",
			func(s *lease.Status) float64 { return float64(s.Leased()) }),
		gauge("partitions_unheld", "Partitions leased by no replica.", func(s *lease.Status) float64 {
			n := 0
			for _, p := range s.Partitions {
				if p.Owner == "" {
					n++
				}
			}
			return float64(n)
		}),
		gauge("leases_reachable", "1 while the KV bucket of the leases can be read and written.",
			func(s *lease.Status) float64 { return boolToFloat(s.Problem == "") }),
		counter("partitions_taken_total", "Leases acquired by this replica.",
			func(s *lease.Status) uint64 { return s.Acquired }),
		counter("partitions_handed_over_total", "Leases released by this replica after their lanes had run empty.",
			func(s *lease.Status) uint64 { return s.Released }),
		counter("partitions_lost_total", "Leases lost to another replica before this one released them.",
			func(s *lease.Status) uint64 { return s.Lost }),
	}
}
