package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/registry"
)

// streamMetrics are those of the configured streams and of their declared consumers. What
// could not be read has none: nothing out of date is shown.
type streamMetrics struct {
	messages, bytes, limit, fill, discardsNew *prometheus.Desc
	lag, ackPending                           *prometheus.Desc
}

func newStreamMetrics() *streamMetrics {
	return &streamMetrics{
		messages:    describe("stream_messages", "Messages in the stream.", "stream"),
		bytes:       describe("stream_bytes", "Bytes in the stream.", "stream"),
		limit:       describe("stream_limit_bytes", "max_bytes of the stream; 0: no limit.", "stream"),
		fill:        describe("stream_fill_ratio", "Used share of the stream's max_bytes or max_msgs, the larger one; absent without a limit.", "stream"),
		discardsNew: describe("stream_discards_new", "1 where the full stream refuses messages, 0 where it drops its oldest.", "stream"),
		lag:         describe("consumer_lag", "Messages that the declared consumer has not acknowledged, delivered or not.", "stream", "consumer"),
		ackPending:  describe("consumer_ack_pending", "Messages delivered to the declared consumer and not acknowledged.", "stream", "consumer"),
	}
}

func (m *streamMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.messages, m.bytes, m.limit, m.fill, m.discardsNew, m.lag, m.ackPending} {
		out <- d
	}
}

func (m *streamMetrics) collect(all []StreamStatus, out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, s := range all {
		if s.StreamState == nil {
			continue
		}
		gauge(m.messages, float64(s.Messages), s.Name)
		gauge(m.bytes, float64(s.Bytes), s.Name)
		gauge(m.limit, float64(s.MaxBytes), s.Name)
		gauge(m.discardsNew, boolToFloat(s.DiscardsNew), s.Name)
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

// certificateExpiries are when the bridge's own client certificates expire, by connection, as
// their files are now. One that cannot be read is left out: the next connect fails with the
// reason.
func (b *Bridge) certificateExpiries() map[string]time.Time {
	all := map[string]time.Time{}
	note := func(connection string, at time.Time, err error) {
		if err == nil && !at.IsZero() {
			all[connection] = at
		}
	}
	c := b.opts.Config
	at, err := c.MQTT.TLS.Files().Expiry()
	note("mqtt", at, err)
	at, err = account.CertificateExpiry(c.NATS.Account)
	note("nats", at, err)
	if p, ok := b.dynamic.registry.(*registry.Postgres); ok {
		at, err = p.CertificateExpiry()
		note("registry", at, err)
	}
	return all
}
