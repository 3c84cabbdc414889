package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/lease"
)

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
