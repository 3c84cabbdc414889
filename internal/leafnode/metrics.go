package leafnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/metrics"
)

func statusMetrics() *metrics.List[Status] {
	l := metrics.NewList[Status]("mqttbridge_leaf_")
	l.Gauge("link_up", "1 while the leaf node is linked to the hub.",
		func(s *Status) float64 { return metrics.Bool(s.Link.Connected) })
	l.Gauge("backlog_messages", "Messages in the local store that the hub has not confirmed as stored.",
		func(s *Status) float64 { return float64(s.Messages) })
	l.Gauge("backlog_bytes", "Bytes in the local store that the hub has not confirmed as stored.",
		func(s *Status) float64 { return float64(s.Bytes) })
	l.Gauge("oldest_seconds", "Age of the oldest message that waits for the hub.",
		func(s *Status) float64 {
			if s.Oldest.IsZero() {
				return 0
			}
			return max(0, time.Since(s.Oldest).Seconds())
		})
	l.Gauge("store_bytes", "Bytes in the local store.",
		func(s *Status) float64 { return float64(s.UsedBytes) })
	l.Gauge("store_limit_bytes", "Size limit of the local store (nats.leaf.max_bytes).",
		func(s *Status) float64 { return float64(s.MaxBytes) })
	return l
}

// Describe implements [prometheus.Collector].
func (n *Node) Describe(out chan<- *prometheus.Desc) { n.metrics.Describe(out) }

// Collect implements [prometheus.Collector].
func (n *Node) Collect(out chan<- prometheus.Metric) { n.metrics.Collect(out, n.Status()) }
