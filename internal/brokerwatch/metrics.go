package brokerwatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics contains the descriptions of the metrics of a Watch.
type metrics struct {
	up, length, limit, inFlight, queueDropped, dropped *prometheus.Desc
}

func newMetrics() *metrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mqttbridge_broker_"+name, help, labels, nil)
	}
	return &metrics{
		up:           describe("api_up", "1 while EMQX's API answers."),
		length:       describe("queue_length", "Messages in EMQX's queue for the lane.", "lane"),
		limit:        describe("queue_limit", "Capacity of EMQX's queue for the lane, in messages; 0: no limit.", "lane"),
		inFlight:     describe("in_flight", "Messages that EMQX has sent to the lane and that are not acknowledged yet.", "lane"),
		queueDropped: describe("queue_dropped_total", "Messages that EMQX dropped from the lane's queue since the session was created.", "lane"),
		dropped:      describe("dropped_total", "Messages that EMQX dropped for any client, because no session was subscribed to them or a queue was full. Device messages that only a rule processes also count as no_subscribers.", "reason"),
	}
}

// Describe implements [prometheus.Collector].
func (w *Watch) Describe(out chan<- *prometheus.Desc) {
	m := w.metrics
	for _, d := range []*prometheus.Desc{m.up, m.length, m.limit, m.inFlight, m.queueDropped, m.dropped} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. It omits readings that are out of date.
func (w *Watch) Collect(out chan<- prometheus.Metric) {
	m := w.metrics
	w.mu.Lock()
	defer w.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	up := 0.0
	if w.polls.Err() == nil && !w.polled.IsZero() {
		up = 1
	}
	gauge(m.up, up)
	if time.Since(w.polled) > freshFor {
		return
	}
	counter(m.dropped, w.counters.NoSubscribers, "no_subscribers")
	counter(m.dropped, w.counters.QueueFull, "queue_full")
	for _, id := range w.served() {
		s := w.queues[id].session
		gauge(m.length, float64(s.QueueLength), id)
		gauge(m.limit, float64(s.QueueLimit), id)
		gauge(m.inFlight, float64(s.InFlight), id)
		counter(m.queueDropped, s.QueueDropped, id)
	}
}
