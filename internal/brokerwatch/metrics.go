package brokerwatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/metrics"
)

const metricPrefix = "mqttbridge_broker_"

var (
	descUp = prometheus.NewDesc(metricPrefix+"api_up", "1 while EMQX's API answers.", nil, nil)

	descDropped = prometheus.NewDesc(metricPrefix+"dropped_total", "Messages that EMQX dropped for any client, because no session was subscribed to them or a queue was full. Device messages that only a rule processes also count as no_subscribers.", []string{"reason"}, nil)
)

func queueMetrics() *metrics.List[emqx.Session] {
	l := metrics.NewList[emqx.Session](metricPrefix, "lane")
	l.Gauge("queue_length", "Messages in EMQX's queue for the lane.",
		func(s *emqx.Session) float64 { return float64(s.QueueLength) })
	l.Gauge("queue_limit", "Capacity of EMQX's queue for the lane, in messages; 0: no limit.",
		func(s *emqx.Session) float64 { return float64(s.QueueLimit) })
	l.Gauge("in_flight", "Messages that EMQX has sent to the lane and that are not acknowledged yet.",
		func(s *emqx.Session) float64 { return float64(s.InFlight) })
	l.Counter("queue_dropped_total", "Messages that EMQX dropped from the lane's queue since the session was created.",
		func(s *emqx.Session) uint64 { return s.QueueDropped })
	return l
}

// Describe implements [prometheus.Collector].
func (w *Watch) Describe(out chan<- *prometheus.Desc) {
	out <- descUp
	out <- descDropped
	w.metrics.Describe(out)
}

// Collect implements [prometheus.Collector]. It omits readings that are out of date.
func (w *Watch) Collect(out chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	up := w.polls.Err() == nil && !w.polled.IsZero()
	out <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, metrics.Bool(up))
	if time.Since(w.polled) > freshFor {
		return
	}
	for reason, n := range map[string]uint64{"no_subscribers": w.counters.NoSubscribers, "queue_full": w.counters.QueueFull} {
		out <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(n), reason)
	}
	for _, id := range w.served() {
		w.metrics.Collect(out, &w.queues[id].session, id)
	}
}
