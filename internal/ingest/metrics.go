package ingest

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Metrics implements [endpoint.Program]: ingest's metrics, Go's and the process's.
// Its labels are the table and the connection.
func (i *Ingest) Metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{i, tableMetrics(), describe("ready", "1 while /readyz says so."),
		describe("build_info", "Always 1; the labels are the version of ingest and of Go.", "version", "goversion"),
		describe("certificate_expiry_timestamp_seconds",
			"When ingest's client certificate on that connection expires, by its file as it is now.", "connection")},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r.MustRegister(i.tracing.Metrics("mqttbridge_ingest_")...)
	return r
}

type collector struct {
	ingest *Ingest
	tables []tableMetric
	ready  *prometheus.Desc
	build  *prometheus.Desc
	expiry *prometheus.Desc
}

type tableMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*TableStatus) float64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mqttbridge_ingest_"+name, help, labels, nil)
}

func tableMetrics() []tableMetric {
	counter := func(name, help string, value func(*TableStatus) uint64) tableMetric {
		return tableMetric{describe(name, help, "table"), prometheus.CounterValue,
			func(s *TableStatus) float64 { return float64(value(s)) }}
	}
	gauge := func(name, help string, value func(*TableStatus) float64) tableMetric {
		return tableMetric{describe(name, help, "table"), prometheus.GaugeValue, value}
	}
	return []tableMetric{
		counter("rows_total", "Rows added or replaced by a newer one.", func(s *TableStatus) uint64 { return s.Rows }),
		counter("duplicates_total", "Messages that changed nothing: stored before, or older than what is there.",
			func(s *TableStatus) uint64 { return s.Duplicates }),
		counter("clock_ignored_total", "Messages whose ts was not believed; the time of receipt was used.",
			func(s *TableStatus) uint64 { return s.ClockIgnored }),
		counter("batches_total", "Batches pulled from the stream.", func(s *TableStatus) uint64 { return s.Batches }),
		counter("messages_total", "Messages pulled from the stream.", func(s *TableStatus) uint64 { return s.Messages }),
		counter("redelivered_total", "Messages pulled that had been delivered before.",
			func(s *TableStatus) uint64 { return s.Redelivered }),
		counter("acknowledged_total", "Messages acknowledged to the stream, stored.",
			func(s *TableStatus) uint64 { return s.Acknowledged }),
		counter("retried_total", "Messages nak'ed, to be delivered again.", func(s *TableStatus) uint64 { return s.Retried }),
		counter("poison_total", "Messages put into quarantine.", func(s *TableStatus) uint64 { return s.Quarantined }),
		counter("exchanges_total", "Transactions tried.", func(s *TableStatus) uint64 { return s.Exchanges }),
		counter("exchange_failures_total", "Transactions that failed.", func(s *TableStatus) uint64 { return s.Failures }),
		gauge("in_hand", "Messages that are being stored.", func(s *TableStatus) float64 { return float64(s.InHand) }),
		gauge("lag", "Messages in the stream that no process has acknowledged, as of the last two seconds or so.",
			func(s *TableStatus) float64 { return float64(s.Lag) }),
		gauge("oldest_unacknowledged_seconds", "How long ago the stream took the oldest message in progress.",
			func(s *TableStatus) float64 { return s.OldestSeconds }),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.tables {
		out <- m.desc
	}
	out <- c.ready
	out <- c.build
	out <- c.expiry
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.ingest.Tables() {
		for _, m := range c.tables {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s), s.Table)
		}
	}
	for connection, at := range c.ingest.certificateExpiries() {
		out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(at.Unix()), connection)
	}
	ready := 0.0
	if ok, _ := c.ingest.Ready(); ok {
		ready = 1
	}
	out <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, ready)
	out <- prometheus.MustNewConstMetric(c.build, prometheus.GaugeValue, 1, c.ingest.opts.Version, runtime.Version())
}

// certificateExpiries are when ingest's own client certificates expire, by connection, as
// their files are now. One that cannot be read is left out: the next connect fails with the
// reason.
func (i *Ingest) certificateExpiries() map[string]time.Time {
	all := map[string]time.Time{}
	note := func(connection string, at time.Time, err error) {
		if err == nil && !at.IsZero() {
			all[connection] = at
		}
	}
	at, err := account.CertificateExpiry(i.opts.Config.NATS)
	note("nats", at, err)
	if conf, err := connConfig(i.opts.Config.Database); err == nil {
		at, err = tlsfile.ConfigExpiry(conf.ConnConfig.TLSConfig)
		note("database", at, err)
	}
	return all
}
