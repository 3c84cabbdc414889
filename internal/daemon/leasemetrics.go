package daemon

import (
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/metrics"
)

func leaseMetrics() *metrics.List[lease.Status] {
	l := metrics.NewList[lease.Status](metricPrefix)
	l.Gauge("replicas", "Replicas seen within the TTL of the leases, this one included.",
		func(s *lease.Status) float64 { return float64(len(s.Replicas)) })
	l.Gauge("partitions_held", "Partitions leased by this replica.",
		func(s *lease.Status) float64 { return float64(s.Leased()) })
	l.Gauge("partitions_unheld", "Partitions leased by no replica.", func(s *lease.Status) float64 {
		n := 0
		for _, p := range s.Partitions {
			if p.Owner == "" {
				n++
			}
		}
		return float64(n)
	})
	l.Gauge("leases_reachable", "1 while the KV bucket of the leases can be read and written.",
		func(s *lease.Status) float64 { return metrics.Bool(s.Err == nil) })
	l.Counter("partitions_taken_total", "Leases acquired by this replica.",
		func(s *lease.Status) uint64 { return s.Acquired })
	l.Counter("partitions_handed_over_total", "Leases released by this replica after their lanes had run empty.",
		func(s *lease.Status) uint64 { return s.Released })
	l.Counter("partitions_lost_total", "Leases lost to another replica before this one released them.",
		func(s *lease.Status) uint64 { return s.Lost })
	return l
}
