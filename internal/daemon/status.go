package daemon

import (
	"context"
	"runtime"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/brokerwatch"
	"mqtt-nats-bridge/internal/leafnode"
	"mqtt-nats-bridge/internal/registry"
	"mqtt-nats-bridge/internal/streamstatus"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/mqtt"
)

// Status is a snapshot of a bridge, as served at /status. Its lists are never nil.
type Status struct {
	Version       string                `json:"version"`
	GoVersion     string                `json:"go_version"`
	Started       time.Time             `json:"started"`
	UptimeSeconds int64                 `json:"uptime_seconds"`
	Ready         bool                  `json:"ready"`
	Problems      []Problem             `json:"problems"`
	Warnings      []Problem             `json:"warnings"` // problems that do not keep the bridge from being ready
	Totals        CountsStatus          `json:"totals"`   // of all lanes
	Devices       DevicesStatus         `json:"devices"`
	Limits        LimitsStatus          `json:"limits"`
	Registry      registry.State        `json:"registry"`
	Reload        ReloadStatus          `json:"reload"`
	Lanes         []LaneStatus          `json:"lanes"`
	Streams       []streamstatus.Stream `json:"streams"`
	// Replicas is nil unless lanes.partitions is auto.
	Replicas *ReplicasStatus  `json:"replicas,omitempty"`
	Leaf     *leafnode.Status `json:"leaf,omitempty"` // in leaf mode
	// Broker is nil without mqtt.emqx.
	Broker *brokerwatch.Status `json:"broker,omitempty"`
}

// DevicesStatus describes the table of devices.
type DevicesStatus struct {
	Known   int    `json:"known"`
	Evicted uint64 `json:"evicted"`
}

// LaneStatus describes one lane.
type LaneStatus struct {
	ClientID string `json:"client_id"`
	// Open reports whether the lane has its journal and accepts messages. Until then the other
	// fields are zero.
	Open bool `json:"open"`
	// Lease is the lease of the lane's partition; nil if partitions are not leased.
	Lease    *LeaseStatus    `json:"lease,omitempty"`
	Session  mqtt.Status     `json:"mqtt"`
	NATS     PublisherStatus `json:"nats"`
	Counts   CountsStatus    `json:"counts"`
	RingFill float64         `json:"ring_fill"` // 0 to 1
	// CatchingUp reports whether devices still have extra credit after an outage.
	CatchingUp bool         `json:"catching_up"`
	LastError  *LastProblem `json:"last_error,omitempty"`
}

// PublisherStatus is a lane's connection to JetStream.
type PublisherStatus struct {
	publish.Stats
	Advice string `json:"advice,omitempty"` // advice on Problem
}

// LastProblem is the latest problem of a lane, which may be over. A lane is sampled once per
// second, so a shorter problem may be missed.
type LastProblem struct {
	Component string    `json:"component"`
	Problem   string    `json:"problem"`
	At        time.Time `json:"at"` // when it was last seen
}

// CountsStatus is [bridge.Counts] as JSON. Received is the sum of Stored, Quarantined,
// QuarantineSkipped, QoS0Dropped and InFlight. The maps contain only reasons that have occurred.
type CountsStatus struct {
	Received          uint64            `json:"received"`
	ReceivedBytes     uint64            `json:"received_bytes"`
	Stored            uint64            `json:"stored"`
	Rejected          map[string]uint64 `json:"rejected"`
	Quarantined       map[string]uint64 `json:"quarantined"`
	QuarantineSkipped uint64            `json:"quarantine_skipped"`
	Redelivered       uint64            `json:"redelivered"`
	Duplicates        uint64            `json:"duplicates"`
	RetainedSkipped   uint64            `json:"retained_skipped"`
	QoS0Dropped       uint64            `json:"qos0_dropped"`
	InFlight          int               `json:"in_flight"`
	AckLatency        LatencyStatus     `json:"ack_latency"`
}

// LatencyStatus estimates the latency of stored messages since the start, from the socket to the
// PubAck.
type LatencyStatus struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// Status returns the state of the bridge. It reads the streams from the server, which takes at most
// 2 s. If a stream could not be read, its status contains the reason.
func (b *Bridge) Status(ctx context.Context) Status {
	ready, problems := b.Ready()
	if problems == nil {
		problems = []Problem{}
	}
	totals := b.Totals()
	s := Status{
		Version: b.opts.Version, GoVersion: runtime.Version(),
		Started: b.started.UTC(), UptimeSeconds: int64(time.Since(b.started).Seconds()),
		Ready: ready, Problems: problems, Warnings: b.Warnings(),
		Totals:  countsStatus(&totals),
		Devices: DevicesStatus{Known: b.devices.Len(), Evicted: b.devices.Evicted()},
		Limits:  b.limitsStatus(), Registry: b.dynamic.registry.State(), Reload: b.reloadStatus(),
		Lanes:   make([]LaneStatus, 0, len(b.lanes)),
		Streams: b.streams.Read(ctx),
		Leaf:    b.leaf.Status(), Broker: b.broker.Status(),
	}
	var leases []LeaseStatus
	if b.replicas != nil {
		s.Replicas, leases = b.replicas.status()
	}
	for i, u := range b.lanes {
		u.watch()
		r := u.read()
		var lease *LeaseStatus
		if leases != nil {
			lease = &leases[i]
		}
		s.Lanes = append(s.Lanes, LaneStatus{
			ClientID: u.plan.ClientID, Open: r.open, Lease: lease, Session: r.session, NATS: r.publisher,
			Counts: countsStatus(&r.counts), RingFill: r.counts.BufferFill,
			CatchingUp: r.counts.CatchingUp, LastError: r.last,
		})
	}
	return s
}

// Ready reports whether the bridge accepts and stores messages on all its lanes. If not, it returns
// the problems.
func (b *Bridge) Ready() (bool, []Problem) {
	problems := b.Problems()
	return len(problems) == 0, problems
}

// Totals returns the sum of the counts of all lanes. Connected means that all lanes of this replica
// are connected.
func (b *Bridge) Totals() bridge.Counts {
	total := bridge.Counts{Connected: true}
	for _, u := range b.lanes {
		r := u.read()
		c := &r.counts
		addCounts(&total, c)
		total.InFlight += c.InFlight
		total.BufferedBytes += c.BufferedBytes
		total.BufferFill = max(total.BufferFill, c.BufferFill)
		total.OldestAge = max(total.OldestAge, c.OldestAge)
		total.CatchingUp = total.CatchingUp || c.CatchingUp
		total.Connected = total.Connected && (c.Connected || r.elsewhere)
	}
	return total
}

// LaneTotal contains the messages that one lane has received and stored.
type LaneTotal struct {
	ClientID         string
	Received, Stored uint64
}

// LaneTotals lists the lanes in the order of /status.
func (b *Bridge) LaneTotals() []LaneTotal {
	all := make([]LaneTotal, len(b.lanes))
	for i, u := range b.lanes {
		r := u.read()
		all[i] = LaneTotal{u.plan.ClientID, r.counts.Received, r.counts.Stored}
	}
	return all
}

// Broker returns the state of EMQX at the latest poll of its API; nil without mqtt.emqx.
func (b *Bridge) Broker() *brokerwatch.Status { return b.broker.Status() }

// addCounts adds the counters of c to total, without the gauges.
func addCounts(total, c *bridge.Counts) {
	total.Received += c.Received
	total.ReceivedBytes += c.ReceivedBytes
	total.Stored += c.Stored
	for i := range c.Rejected {
		total.Rejected[i] += c.Rejected[i]
		total.Quarantined[i] += c.Quarantined[i]
	}
	total.QuarantineSkipped += c.QuarantineSkipped
	total.Redelivered += c.Redelivered
	total.Duplicates += c.Duplicates
	total.RetainedSkipped += c.RetainedSkipped
	total.QoS0Dropped += c.QoS0Dropped
	total.AckLatency.Add(&c.AckLatency)
}

// Device returns the state of a device, or false if it is not in the table.
func (b *Bridge) Device(tenant, device string) (limit.Device, bool) {
	return b.devices.Lookup(tenant, device, b.limits)
}

// TopDevices returns the n devices with the most messages received or rejected.
func (b *Bridge) TopDevices(n int, by limit.TopBy) []limit.Device {
	return b.devices.Top(n, by, b.limits)
}

// laneReading is a snapshot of a lane, its publisher and its session.
type laneReading struct {
	open      bool
	elsewhere bool // this replica does not lease its partition
	counts    bridge.Counts
	publisher PublisherStatus
	session   mqtt.Status
	// Number of first connections, which are not reconnects.
	firstMQTT, firstNATS uint64
	last                 *LastProblem
}

func (u *laneUnit) read() laneReading {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.reading()
	r.elsewhere = u.leased && !u.owned
	r.add(&u.past)
	r.last = u.last
	return r
}

// reading reads the state of the open lane. The caller holds u.mu.
func (u *laneUnit) reading() laneReading {
	r := laneReading{session: mqtt.Status{ClientID: u.plan.ClientID}}
	if u.lane != nil {
		r.open = true
		r.counts, r.publisher, r.session = u.lane.Counts(), u.publisherStats(u.publisher), u.session.Status()
		r.firstMQTT, r.firstNATS = min(r.session.Connects, 1), min(r.publisher.Connects, 1)
	}
	return r
}

// add adds the counters of past.
func (r *laneReading) add(past *laneReading) {
	addCounts(&r.counts, &past.counts)
	r.publisher.Sent += past.publisher.Sent
	r.publisher.Resent += past.publisher.Resent
	r.publisher.Recoveries += past.publisher.Recoveries
	r.publisher.Connects += past.publisher.Connects
	r.session.Connects += past.session.Connects
	r.session.SessionsLost += past.session.SessionsLost
	r.firstMQTT += past.firstMQTT
	r.firstNATS += past.firstNATS
}

// watch records the present problem of the lane.
func (u *laneUnit) watch() {
	problems := u.problems()
	if len(problems) == 0 {
		return
	}
	p := problems[0]
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = &LastProblem{Component: p.Component, Problem: p.Problem, At: time.Now().UTC()}
}

func countsStatus(c *bridge.Counts) CountsStatus {
	const ms = float64(time.Millisecond)
	s := CountsStatus{
		Received: c.Received, ReceivedBytes: c.ReceivedBytes, Stored: c.Stored,
		Rejected: map[string]uint64{}, Quarantined: map[string]uint64{}, QuarantineSkipped: c.QuarantineSkipped,
		Redelivered: c.Redelivered, Duplicates: c.Duplicates,
		RetainedSkipped: c.RetainedSkipped, QoS0Dropped: c.QoS0Dropped, InFlight: c.InFlight,
		AckLatency: LatencyStatus{
			P50: float64(c.AckLatency.Quantile(0.5)) / ms,
			P99: float64(c.AckLatency.Quantile(0.99)) / ms,
		},
	}
	for _, reason := range verdict.Reasons() {
		if n := c.Rejected[reason]; n > 0 {
			s.Rejected[reason.String()] = n
		}
		if n := c.Quarantined[reason]; n > 0 {
			s.Quarantined[reason.String()] = n
		}
	}
	return s
}
