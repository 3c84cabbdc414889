package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/metrics"
	"mqtt-nats-bridge/internal/tlsfile"
)

const metricPrefix = "mqttbridge_ingest_"

// Metrics implements [endpoint.Program]. It returns the metrics of ingest, Go and the process; the
// labels are the table and the connection.
func (i *Ingest) Metrics() *prometheus.Registry {
	all := metrics.Program{
		Prefix: metricPrefix, Name: "ingest", Version: i.opts.Version,
		Ready: func() bool { return len(i.Problems()) == 0 },
		Expiries: map[string]func() (time.Time, error){
			"nats":     func() (time.Time, error) { return account.CertificateExpiry(i.opts.Config.NATS) },
			"database": i.databaseCertificateExpiry,
		},
	}.Collectors()
	return metrics.NewRegistry(append(append(all, &collector{i, tableMetrics()}), i.tracing.Metrics(metricPrefix)...)...)
}

type collector struct {
	ingest *Ingest
	tables *metrics.List[TableStatus]
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) { c.tables.Describe(out) }

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.ingest.Tables() {
		c.tables.Collect(out, &s, s.Table)
	}
}

func tableMetrics() *metrics.List[TableStatus] {
	l := metrics.NewList[TableStatus](metricPrefix, "table")
	l.Counter("rows_total", "Rows added or replaced by a newer one.", func(s *TableStatus) uint64 { return s.Rows })
	l.Counter("duplicates_total", "Messages that changed nothing: already stored, or older than the stored row.",
		func(s *TableStatus) uint64 { return s.Duplicates })
	l.Counter("clock_ignored_total", "Messages with an implausible ts; the time of receipt was used.",
		func(s *TableStatus) uint64 { return s.ClockIgnored })
	l.Counter("batches_total", "Batches pulled from the stream.", func(s *TableStatus) uint64 { return s.Batches })
	l.Counter("messages_total", "Messages pulled from the stream.", func(s *TableStatus) uint64 { return s.Messages })
	l.Counter("redelivered_total", "Messages pulled that were redeliveries.",
		func(s *TableStatus) uint64 { return s.Redelivered })
	l.Counter("acknowledged_total", "Messages stored and acknowledged.",
		func(s *TableStatus) uint64 { return s.Acknowledged })
	l.Counter("retried_total", "Messages returned with a nak for redelivery.", func(s *TableStatus) uint64 { return s.Retried })
	l.Counter("poison_total", "Messages put into quarantine.", func(s *TableStatus) uint64 { return s.Quarantined })
	l.Counter("exchanges_total", "Transactions tried.", func(s *TableStatus) uint64 { return s.Exchanges })
	l.Counter("exchange_failures_total", "Transactions that failed.", func(s *TableStatus) uint64 { return s.Failures })
	l.Gauge("in_hand", "Messages in progress.", func(s *TableStatus) float64 { return float64(s.InHand) })
	l.Gauge("lag", "Messages in the stream that no process has acknowledged, up to about two seconds old.",
		func(s *TableStatus) float64 { return float64(s.Lag) })
	l.Gauge("oldest_unacknowledged_seconds", "Time since the stream stored the oldest message in progress.",
		func(s *TableStatus) float64 { return s.OldestSeconds })
	return l
}

func (i *Ingest) databaseCertificateExpiry() (time.Time, error) {
	conf, err := connConfig(i.opts.Config.Database)
	if err != nil {
		return time.Time{}, err
	}
	return tlsfile.ConfigExpiry(conf.ConnConfig.TLSConfig)
}
