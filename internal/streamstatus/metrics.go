package streamstatus

import (
	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/metrics"
)

var descFill = prometheus.NewDesc("mqttbridge_stream_fill_ratio",
	"Used share of the stream's max_bytes or max_msgs, whichever is larger; absent without a limit.", []string{"stream"}, nil)

func streamMetrics() *metrics.List[State] {
	l := metrics.NewList[State]("mqttbridge_stream_", "stream")
	l.Gauge("messages", "Messages in the stream.", func(s *State) float64 { return float64(s.Messages) })
	l.Gauge("bytes", "Bytes in the stream.", func(s *State) float64 { return float64(s.Bytes) })
	l.Gauge("limit_bytes", "Size limit of the stream (max_bytes); 0: no limit.", func(s *State) float64 { return float64(s.MaxBytes) })
	l.Gauge("discards_new", "1 if the full stream refuses messages, 0 if it drops its oldest.", func(s *State) float64 { return metrics.Bool(s.DiscardsNew) })
	return l
}

func consumerMetrics() *metrics.List[Consumer] {
	l := metrics.NewList[Consumer]("mqttbridge_consumer_", "stream", "consumer")
	l.Gauge("lag", "Messages that the declared consumer has not acknowledged, delivered or not.", func(c *Consumer) float64 { return float64(c.Lag) })
	l.Gauge("ack_pending", "Messages delivered to the declared consumer and not acknowledged yet.", func(c *Consumer) float64 { return float64(c.AckPending) })
	return l
}

// Describe implements [prometheus.Collector].
func (r *Reader) Describe(out chan<- *prometheus.Desc) {
	out <- descFill
	r.streams.Describe(out)
	r.consumers.Describe(out)
}

// Collect implements [prometheus.Collector]. Streams and consumers that could not be read have no
// metrics, so that no outdated values are exported.
func (r *Reader) Collect(out chan<- prometheus.Metric) {
	for _, s := range r.Latest() {
		if s.State == nil {
			continue
		}
		r.streams.Collect(out, s.State, s.Name)
		if fill, limited := s.Fill(); limited {
			out <- prometheus.MustNewConstMetric(descFill, prometheus.GaugeValue, fill, s.Name)
		}
		for _, c := range s.Consumers {
			if c.Problem == "" {
				r.consumers.Collect(out, &c, s.Name, c.Name)
			}
		}
	}
}
