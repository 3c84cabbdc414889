package leafnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is a gauge read from the status.
type metric struct {
	desc  *prometheus.Desc
	value func(*Status) float64
}

func metrics() []metric {
	gauge := func(name, help string, value func(*Status) float64) metric {
		return metric{prometheus.NewDesc("mqttbridge_leaf_"+name, help, nil, nil), value}
	}
	return []metric{
		gauge("link_up", "1 while the leaf node is linked to the hub.",
			func(s *Status) float64 {
				if s.Link.Connected {
					return 1
				}
				return 0
			}),
		gauge("backlog_messages", "Messages in the local store that the hub is not known to have stored.",
			func(s *Status) float64 { return float64(s.Messages) }),
		gauge("backlog_bytes", "Bytes in the local store that the hub is not known to have stored.",
			func(s *Status) float64 { return float64(s.Bytes) }),
		gauge("oldest_seconds", "How long the oldest message has waited for the hub.",
			func(s *Status) float64 {
				if s.Oldest.IsZero() {
					return 0
				}
				return max(0, time.Since(s.Oldest).Seconds())
			}),
		gauge("store_bytes", "Bytes in the local store.",
			func(s *Status) float64 { return float64(s.UsedBytes) }),
		gauge("store_limit_bytes", "nats.leaf.max_bytes.",
			func(s *Status) float64 { return float64(s.MaxBytes) }),
	}
}

// Describe implements [prometheus.Collector].
func (n *Node) Describe(out chan<- *prometheus.Desc) {
	for _, m := range n.metrics {
		out <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (n *Node) Collect(out chan<- prometheus.Metric) {
	s := n.Status()
	for _, m := range n.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(s))
	}
}
