package streamstatus

import "github.com/prometheus/client_golang/prometheus"

// metrics contains the descriptions of the metrics of streams and declared consumers. Streams and
// consumers that could not be read have no metrics, so that no outdated values are exported.
type metrics struct {
	messages, bytes, limit, fill, discardsNew *prometheus.Desc
	lag, ackPending                           *prometheus.Desc
}

func newMetrics() *metrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mqttbridge_"+name, help, labels, nil)
	}
	return &metrics{
		messages:    describe("stream_messages", "Messages in the stream.", "stream"),
		bytes:       describe("stream_bytes", "Bytes in the stream.", "stream"),
		limit:       describe("stream_limit_bytes", "Size limit of the stream (max_bytes); 0: no limit.", "stream"),
		fill:        describe("stream_fill_ratio", "Used share of the stream's max_bytes or max_msgs, whichever is larger; absent without a limit.", "stream"),
		discardsNew: describe("stream_discards_new", "1 if the full stream refuses messages, 0 if it drops its oldest.", "stream"),
		lag:         describe("consumer_lag", "Messages that the declared consumer has not acknowledged, delivered or not.", "stream", "consumer"),
		ackPending:  describe("consumer_ack_pending", "Messages delivered to the declared consumer and not acknowledged yet.", "stream", "consumer"),
	}
}

// Describe implements [prometheus.Collector].
func (r *Reader) Describe(out chan<- *prometheus.Desc) {
	m := r.metrics
	for _, d := range []*prometheus.Desc{m.messages, m.bytes, m.limit, m.fill, m.discardsNew, m.lag, m.ackPending} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (r *Reader) Collect(out chan<- prometheus.Metric) {
	m := r.metrics
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, s := range r.Latest() {
		if s.State == nil {
			continue
		}
		gauge(m.messages, float64(s.Messages), s.Name)
		gauge(m.bytes, float64(s.Bytes), s.Name)
		gauge(m.limit, float64(s.MaxBytes), s.Name)
		discards := 0.0
		if s.DiscardsNew {
			discards = 1
		}
		gauge(m.discardsNew, discards, s.Name)
		if fill, limited := s.Fill(); limited {
			gauge(m.fill, fill, s.Name)
		}
		for _, c := range s.Consumers {
			if c.Problem == "" {
				gauge(m.lag, float64(c.Lag), s.Name, c.Name)
				gauge(m.ackPending, float64(c.AckPending), s.Name, c.Name)
			}
		}
	}
}
