package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// BrokerStatus is what EMQX's API says of the lanes' sessions.
type BrokerStatus struct {
	API      string    `json:"api"`
	Problem  string    `json:"problem,omitempty"` // of the last poll
	PolledAt time.Time `json:"polled_at,omitzero"`
	// NoSubscribers and QueueFull are messages that EMQX dropped since it started, for
	// any client.
	NoSubscribers uint64              `json:"dropped_no_subscribers"`
	QueueFull     uint64              `json:"dropped_queue_full"`
	Queues        []BrokerQueueStatus `json:"queues"`
}

// BrokerQueueStatus is one lane's session at the broker.
type BrokerQueueStatus struct {
	ClientID  string `json:"client_id"`
	Connected bool   `json:"connected"`
	Length    int64  `json:"length"`
	Limit     int64  `json:"limit"` // 0: none
	Dropped   uint64 `json:"dropped"`
	InFlight  int64  `json:"in_flight"`
}

// status is nil where the API is not configured.
func (w *brokerWatch) status() *BrokerStatus {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &BrokerStatus{
		API: w.api, PolledAt: w.polled.UTC(), Queues: []BrokerQueueStatus{},
		NoSubscribers: w.counters.NoSubscribers, QueueFull: w.counters.QueueFull,
	}
	if err := w.answers.Err(); err != nil {
		s.Problem = err.Error()
	}
	for _, id := range w.lanes {
		if q := w.queues[id]; q != nil {
			s.Queues = append(s.Queues, BrokerQueueStatus{
				ClientID: id, Connected: q.session.Connected, Length: q.session.QueueLength, Limit: int64(q.session.QueueLimit),
				Dropped: q.session.QueueDropped, InFlight: q.session.InFlight,
			})
		}
	}
	return s
}

// brokerMetrics are those of a bridge with mqtt.emqx.
type brokerMetrics struct {
	up, length, limit, inFlight, queueDropped, dropped *prometheus.Desc
}

func newBrokerMetrics() *brokerMetrics {
	return &brokerMetrics{
		up:           describe("broker_api_up", "1 while EMQX's API answers."),
		length:       describe("broker_queue_length", "Messages in EMQX's queue for the lane.", "lane"),
		limit:        describe("broker_queue_limit", "Messages that EMQX's queue for the lane can hold; 0: no limit.", "lane"),
		inFlight:     describe("broker_in_flight", "Messages that EMQX sent to the lane and that are not acknowledged.", "lane"),
		queueDropped: describe("broker_queue_dropped_total", "Messages that EMQX dropped from the lane's queue since the session was created.", "lane"),
		dropped:      describe("broker_dropped_total", "Messages that EMQX dropped for any client: no session subscribed to them (device messages that only a rule takes count too), or a full queue.", "reason"),
	}
}

func (m *brokerMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.length, m.limit, m.inFlight, m.queueDropped, m.dropped} {
		out <- d
	}
}

// collect shows nothing that is out of date.
func (m *brokerMetrics) collect(w *brokerWatch, out chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(m.up, boolToFloat(w.answers.Err() == nil && !w.polled.IsZero()))
	if time.Since(w.polled) > brokerFresh {
		return
	}
	counter(m.dropped, w.counters.NoSubscribers, "no_subscribers")
	counter(m.dropped, w.counters.QueueFull, "queue_full")
	for _, id := range w.mine() {
		s := w.queues[id].session
		gauge(m.length, float64(s.QueueLength), id)
		gauge(m.limit, float64(s.QueueLimit), id)
		gauge(m.inFlight, float64(s.InFlight), id)
		counter(m.queueDropped, s.QueueDropped, id)
	}
}
