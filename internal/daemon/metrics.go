package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/metrics"
	"mqtt-nats-bridge/internal/registry"
)

const metricPrefix = "mqttbridge_"

// Metrics returns a registry with the metrics of the bridge, Go and the process. Each scrape reads
// the counters of the lanes, and the streams unless the page has just read them. A label has a
// bounded number of values, so devices and topics are never labels.
func (b *Bridge) Metrics() *prometheus.Registry { return metrics.NewRegistry(b.collectors()...) }

func (b *Bridge) collectors() []prometheus.Collector {
	c := b.opts.Config
	expiries := map[string]func() (time.Time, error){
		"mqtt": c.MQTT.TLS.Files().Expiry,
		"nats": func() (time.Time, error) { return account.CertificateExpiry(c.NATS.Account) },
	}
	if p, ok := b.dynamic.registry.(*registry.Postgres); ok {
		expiries["registry"] = p.CertificateExpiry
	}
	all := metrics.Program{
		Prefix: metricPrefix, Name: "the bridge", Version: b.opts.Version, Expiries: expiries,
		Ready: func() bool { return len(b.Problems()) == 0 },
	}.Collectors()
	all = append(all, b.wholeMetrics()...)
	all = append(all, newCollector(b), b.streams)
	all = append(all, b.tracing.Metrics(metricPrefix)...)
	if b.leaf != nil {
		all = append(all, b.leaf)
	}
	if b.broker != nil {
		all = append(all, b.broker)
	}
	return all
}

// collector implements [prometheus.Collector] for the bridge.
type collector struct {
	bridge      *Bridge
	lanes       *metrics.List[laneReading]
	leases      *metrics.List[lease.Status]
	tenants     *metrics.List[limit.TenantCounts] // empty without metrics.tenants
	rejected    *prometheus.Desc
	quarantined *prometheus.Desc
	latency     *prometheus.Desc
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricPrefix+name, help, labels, nil)
}

func newCollector(b *Bridge) *collector {
	return &collector{
		bridge: b, lanes: laneMetrics(), leases: leaseMetrics(), tenants: tenantMetrics(),
		rejected: describe("rejected_total",
			"Messages rejected by a check, by reason, in quarantine or not.", "lane", "reason"),
		quarantined: describe("quarantined_total",
			"Rejected messages stored in quarantine, by reason.", "lane", "reason"),
		latency: describe("ack_latency_seconds",
			"Time of stored messages from the MQTT socket to JetStream's acknowledgement.", "lane"),
	}
}

func laneMetrics() *metrics.List[laneReading] {
	l := metrics.NewList[laneReading](metricPrefix, "lane")
	l.Counter("received_total", "Messages received from the broker and validated.",
		func(r *laneReading) uint64 { return r.counts.Received })
	l.Counter("received_bytes_total", "Payload bytes of received messages.",
		func(r *laneReading) uint64 { return r.counts.ReceivedBytes })
	l.Counter("stored_total", "Accepted messages that JetStream has acknowledged.",
		func(r *laneReading) uint64 { return r.counts.Stored })
	l.Counter("quarantine_skipped_total", "Rejected messages that were not stored: over the device's quarantine bound, or quarantine is off.",
		func(r *laneReading) uint64 { return r.counts.QuarantineSkipped })
	l.Counter("redelivered_total", "Messages that the broker sent with DUP set.",
		func(r *laneReading) uint64 { return r.counts.Redelivered })
	l.Counter("duplicates_total", "Messages that JetStream recognised as duplicates.",
		func(r *laneReading) uint64 { return r.counts.Duplicates })
	l.Counter("resent_total", "Messages sent to JetStream again.",
		func(r *laneReading) uint64 { return r.publisher.Resent })
	l.Counter("recoveries_total", "Times the lane resumed sending from its oldest unacknowledged message.",
		func(r *laneReading) uint64 { return r.publisher.Recoveries })
	l.Counter("retained_skipped_total", "Retained copies that the broker sent on subscribe, skipped as stale.",
		func(r *laneReading) uint64 { return r.counts.RetainedSkipped })
	l.Counter("qos0_dropped_total", "QoS 0 messages dropped over lane.qos0_pending.",
		func(r *laneReading) uint64 { return r.counts.QoS0Dropped })
	l.Counter("session_lost_total", "Reconnects to a broker that had lost the session and its queue.",
		func(r *laneReading) uint64 { return r.session.SessionsLost })
	l.Counter("mqtt_reconnects_total", "MQTT reconnects, not counting the first connection after the lane was opened.",
		func(r *laneReading) uint64 { return r.session.Connects - r.firstMQTT })
	l.Counter("nats_reconnects_total", "NATS reconnects, not counting the first connection after the lane was opened.",
		func(r *laneReading) uint64 { return r.publisher.Connects - r.firstNATS })
	l.Gauge("in_flight", "Messages validated and neither stored nor dropped yet.",
		func(r *laneReading) float64 { return float64(r.counts.InFlight) })
	l.Gauge("oldest_unsettled_seconds", "Time that the oldest message in flight has waited for JetStream.",
		func(r *laneReading) float64 { return float64(r.counts.OldestAge) / 1e9 })
	l.Gauge("ring_fill_ratio", "In-flight messages as a share of the lane's capacity.",
		func(r *laneReading) float64 { return r.counts.BufferFill })
	l.Gauge("mqtt_connected", "1 while the lane's MQTT session is connected.",
		func(r *laneReading) float64 { return metrics.Bool(r.session.Connected) })
	l.Gauge("nats_connected", "1 while the lane's NATS connection is up.",
		func(r *laneReading) float64 { return metrics.Bool(r.publisher.Connected) })
	return l
}

func tenantMetrics() *metrics.List[limit.TenantCounts] {
	l := metrics.NewList[limit.TenantCounts](metricPrefix, "tenant")
	l.Counter("tenant_received_total", "Messages received from the tenant's devices.", func(t *limit.TenantCounts) uint64 { return t.Received })
	l.Counter("tenant_stored_total", "Accepted messages of the tenant's devices that JetStream has acknowledged.", func(t *limit.TenantCounts) uint64 { return t.Stored })
	l.Counter("tenant_rejected_total", "Messages of the tenant's devices rejected by a check.", func(t *limit.TenantCounts) uint64 { return t.Rejected })
	return l
}

// wholeMetrics returns the metrics of the bridge as a whole.
func (b *Bridge) wholeMetrics() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("limit_overrides", "Limits of single tenants and devices in force, from the bucket limits.bucket.",
			func() float64 { return float64(b.dynamic.overrides.Status().Overrides) }),
		gauge("limit_overrides_refused", "Invalid keys in the bucket limits.bucket; their previous values apply.",
			func() float64 { return float64(b.dynamic.overrides.Status().Refused) }),
		gauge("limit_overrides_stale", "1 while the bucket limits.bucket exists and is not followed.",
			func() float64 {
				_, stale := b.dynamic.overrides.Warning()
				return metrics.Bool(stale)
			}),
		gauge("registry_entries", "Certificates in the registry.",
			func() float64 { return float64(b.dynamic.registry.State().Entries) }),
		gauge("registry_refused", "Invalid entries of the registry; their previous values apply.",
			func() float64 { return float64(b.dynamic.registry.State().Refused) }),
		gauge("registry_stale", "1 while the certificate registry is not followed and its last known state is used.",
			func() float64 { return metrics.Bool(b.dynamic.registry.State().Stale()) }),
		gauge("devices", "Devices in the rate limiter's table.",
			func() float64 { return float64(b.devices.Len()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: metricPrefix + "devices_evicted_total", Help: "Devices removed from the rate limiter's table: idle, or the table was full."},
			func() float64 { return float64(b.devices.Evicted()) }),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	c.lanes.Describe(out)
	c.leases.Describe(out)
	c.tenants.Describe(out)
	for _, d := range []*prometheus.Desc{c.rejected, c.quarantined, c.latency} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. Every lane and every reason has a series from the
// start, if necessary with 0: a rate over a series that begins with its first event does not
// include that event.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, u := range c.bridge.lanes {
		lane, r := u.plan.ClientID, u.read()
		if r.elsewhere { // only the counts of this replica are meaningful
			c.lanes.CollectCounters(out, &r, lane)
		} else {
			c.lanes.Collect(out, &r, lane)
		}
		for _, reason := range verdict.Reasons() {
			out <- prometheus.MustNewConstMetric(c.rejected, prometheus.CounterValue,
				float64(r.counts.Rejected[reason]), lane, reason.String())
			out <- prometheus.MustNewConstMetric(c.quarantined, prometheus.CounterValue,
				float64(r.counts.Quarantined[reason]), lane, reason.String())
		}
		out <- latencyMetric(c.latency, &r.counts.AckLatency, lane)
	}
	if c.bridge.replicas != nil {
		s := c.bridge.replicas.leases.Status()
		c.leases.Collect(out, &s)
	}
	for _, t := range c.bridge.devices.ByTenant() {
		c.tenants.Collect(out, &t, t.Tenant)
	}
}

// latencyMetric converts separate buckets in ns to cumulative buckets in seconds. The last bucket
// has no bound: it is +Inf in Prometheus.
func latencyMetric(desc *prometheus.Desc, h *bridge.Histogram, lane string) prometheus.Metric {
	const second = 1e9
	buckets := make(map[float64]uint64, len(h.Buckets)-1)
	var below uint64
	for i, n := range h.Buckets[:len(h.Buckets)-1] {
		below += n
		buckets[float64(h.UpperBound(i))/second] = below
	}
	return prometheus.MustNewConstHistogram(desc, h.Count, float64(h.Sum)/second, buckets, lane)
}
