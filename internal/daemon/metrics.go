package daemon

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// Metrics returns a registry with the bridge's metrics, Go's and the process's.
// Nothing is counted for it: each scrape reads what the lanes count anyway, and the
// streams, unless the page has just done so. A label has a bounded number of values;
// a device or a topic is never one.
func (b *Bridge) Metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(b),
		b.streams,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r.MustRegister(b.tracing.Metrics("mqttbridge_")...)
	if b.leaf != nil {
		r.MustRegister(b.leaf)
	}
	if b.broker != nil {
		r.MustRegister(b.broker)
	}
	return r
}

// collector is the bridge as a [prometheus.Collector].
type collector struct {
	bridge      *Bridge
	lanes       []laneMetric
	wholes      []wholeMetric
	rejected    *prometheus.Desc
	quarantined *prometheus.Desc
	latency     *prometheus.Desc
	build       *prometheus.Desc
	leases      []leaseMetric
	expiry      *prometheus.Desc
	// Of each tenant; nothing without metrics.tenants.
	tenantReceived, tenantStored, tenantRejected *prometheus.Desc
}

// laneMetric is a metric with one value for each lane.
type laneMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*laneReading) float64
}

// wholeMetric is one of the bridge as a whole.
type wholeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Bridge) float64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mqttbridge_"+name, help, labels, nil)
}

func newCollector(b *Bridge) *collector {
	c := &collector{
		bridge: b, lanes: laneMetrics(), wholes: wholeMetrics(), leases: leaseMetrics(),
		rejected: describe("rejected_total",
			"Messages that a check refused, by reason, whether quarantine keeps them or not.", "lane", "reason"),
		quarantined: describe("quarantined_total",
			"Refused messages stored in quarantine, by reason.", "lane", "reason"),
		latency: describe("ack_latency_seconds",
			"Time of stored messages from the MQTT socket to JetStream's acknowledgement.", "lane"),
		build: describe("build_info",
			"Always 1; the labels are the version of the bridge and of Go.", "version", "goversion"),
		tenantReceived: describe("tenant_received_total", "Messages received from the tenant's devices.", "tenant"),
		tenantStored:   describe("tenant_stored_total", "Accepted messages of the tenant's devices that JetStream has acknowledged.", "tenant"),
		tenantRejected: describe("tenant_rejected_total", "Messages of the tenant's devices that a check refused.", "tenant"),
		expiry: describe("certificate_expiry_timestamp_seconds",
			"When the bridge's client certificate on that connection expires, by its file as it is now.", "connection"),
	}
	return c
}

func laneMetrics() []laneMetric {
	counter := func(name, help string, value func(*laneReading) uint64) laneMetric {
		return laneMetric{describe(name, help, "lane"), prometheus.CounterValue,
			func(r *laneReading) float64 { return float64(value(r)) }}
	}
	gauge := func(name, help string, value func(*laneReading) float64) laneMetric {
		return laneMetric{describe(name, help, "lane"), prometheus.GaugeValue, value}
	}
	return []laneMetric{
		counter("received_total", "Messages received from the broker and validated.",
			func(r *laneReading) uint64 { return r.counts.Received }),
		counter("received_bytes_total", "Payload bytes of received messages.",
			func(r *laneReading) uint64 { return r.counts.ReceivedBytes }),
		counter("stored_total", "Accepted messages that JetStream has acknowledged.",
			func(r *laneReading) uint64 { return r.counts.Stored }),
		counter("quarantine_skipped_total", "Refused messages that were not stored: over the device's quarantine bound, or quarantine is off.",
			func(r *laneReading) uint64 { return r.counts.QuarantineSkipped }),
		counter("redelivered_total", "Messages that the broker sent with DUP set.",
			func(r *laneReading) uint64 { return r.counts.Redelivered }),
		counter("duplicates_total", "Messages that JetStream answered as stored before.",
			func(r *laneReading) uint64 { return r.counts.Duplicates }),
		counter("resent_total", "Messages sent to JetStream again.",
			func(r *laneReading) uint64 { return r.publisher.Resent }),
		counter("recoveries_total", "Times the lane went back to its oldest unacknowledged message and sent on from there.",
			func(r *laneReading) uint64 { return r.publisher.Recoveries }),
		counter("retained_skipped_total", "Retained copies that the broker sent on subscribe, skipped as stale.",
			func(r *laneReading) uint64 { return r.counts.RetainedSkipped }),
		counter("qos0_dropped_total", "QoS 0 messages dropped over lane.qos0_pending.",
			func(r *laneReading) uint64 { return r.counts.QoS0Dropped }),
		counter("session_lost_total", "Reconnects to a broker that had lost the session and what was queued in it.",
			func(r *laneReading) uint64 { return r.session.SessionsLost }),
		counter("mqtt_reconnects_total", "MQTT connections after the first, each time that the lane was opened.",
			func(r *laneReading) uint64 { return r.session.Connects - r.firstMQTT }),
		counter("nats_reconnects_total", "NATS connections opened after the first, each time that the lane was opened.",
			func(r *laneReading) uint64 { return r.publisher.Connects - r.firstNATS }),
		gauge("in_flight", "Messages validated and neither stored nor dropped yet.",
			func(r *laneReading) float64 { return float64(r.counts.InFlight) }),
		gauge("oldest_unsettled_seconds", "How long the oldest message in flight has waited for JetStream.",
			func(r *laneReading) float64 { return float64(r.counts.OldestAge) / 1e9 }),
		gauge("ring_fill_ratio", "In-flight messages as a share of the lane's capacity.",
			(*laneReading).ringFill),
		gauge("mqtt_connected", "1 while the lane's MQTT session is connected.",
			func(r *laneReading) float64 { return boolToFloat(r.session.Connected) }),
		gauge("nats_connected", "1 while the lane's NATS connection is up.",
			func(r *laneReading) float64 { return boolToFloat(r.publisher.Connected) }),
	}
}

func wholeMetrics() []wholeMetric {
	return []wholeMetric{
		{describe("ready", "1 while /readyz says so."), prometheus.GaugeValue,
			func(b *Bridge) float64 {
				ready, _ := b.Ready()
				return boolToFloat(ready)
			}},
		{describe("limit_overrides", "Limits of single tenants and devices in force, from the bucket limits.bucket."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return float64(b.dynamic.overrides.Status().Overrides) }},
		{describe("limit_overrides_refused", "Keys of that bucket that cannot be read; their previous values are kept."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return float64(b.dynamic.overrides.Status().Refused) }},
		{describe("limit_overrides_stale", "1 while that bucket is there and is not followed."), prometheus.GaugeValue,
			func(b *Bridge) float64 {
				_, stale := b.dynamic.overrides.Warning()
				return boolToFloat(stale)
			}},
		{describe("registry_entries", "Certificates that the registry knows."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return float64(b.dynamic.registryState().Entries) }},
		{describe("registry_refused", "Entries of the registry that cannot be read; what was known of them applies."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return float64(b.dynamic.registryState().Refused) }},
		{describe("registry_stale", "1 while the certificate registry is not followed and its last known state is used."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return boolToFloat(b.dynamic.registryState().Stale()) }},
		{describe("devices", "Devices in the rate limiter's table."), prometheus.GaugeValue,
			func(b *Bridge) float64 { return float64(b.devices.Len()) }},
		{describe("devices_evicted_total", "Devices forgotten: idle, or the table was full."), prometheus.CounterValue,
			func(b *Bridge) float64 { return float64(b.devices.Evicted()) }},
	}
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.lanes {
		out <- m.desc
	}
	for _, m := range c.wholes {
		out <- m.desc
	}
	for _, m := range c.leases {
		out <- m.desc
	}
	for _, d := range []*prometheus.Desc{
		c.rejected, c.quarantined, c.latency, c.build, c.expiry, c.tenantReceived, c.tenantStored, c.tenantRejected,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. Every lane and every reason is there
// from the start, at 0 if need be: a rate over a series that begins with its first
// event does not include that event.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, u := range c.bridge.lanes {
		lane, r := u.plan.ClientID, u.read()
		for _, m := range c.lanes {
			// Of a lane that another replica has, only what was counted here
			// means something.
			if r.elsewhere && m.kind == prometheus.GaugeValue {
				continue
			}
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&r), lane)
		}
		for _, reason := range verdict.Reasons() {
			out <- prometheus.MustNewConstMetric(c.rejected, prometheus.CounterValue,
				float64(r.counts.Rejected[reason]), lane, reason.String())
			out <- prometheus.MustNewConstMetric(c.quarantined, prometheus.CounterValue,
				float64(r.counts.Quarantined[reason]), lane, reason.String())
		}
		out <- latencyMetric(c.latency, &r.counts.AckLatency, lane)
	}
	for _, m := range c.wholes {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(c.bridge))
	}
	if c.bridge.replicas != nil {
		s := c.bridge.replicas.leases.Status()
		for _, m := range c.leases {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
		}
	}
	for _, t := range c.bridge.devices.ByTenant() {
		out <- prometheus.MustNewConstMetric(c.tenantReceived, prometheus.CounterValue, float64(t.Received), t.Tenant)
		out <- prometheus.MustNewConstMetric(c.tenantStored, prometheus.CounterValue, float64(t.Stored), t.Tenant)
		out <- prometheus.MustNewConstMetric(c.tenantRejected, prometheus.CounterValue, float64(t.Rejected), t.Tenant)
	}
	for connection, at := range c.bridge.certificateExpiries() {
		out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(at.Unix()), connection)
	}
	out <- prometheus.MustNewConstMetric(c.build, prometheus.GaugeValue, 1, c.bridge.opts.Version, runtime.Version())
}

// latencyMetric converts ns in buckets of their own to seconds in cumulative
// ones. The last bucket has no bound: it is what Prometheus calls +Inf.
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
