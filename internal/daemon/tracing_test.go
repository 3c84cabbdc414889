package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/otlptest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// stored returns the first n messages of a stream.
func stored(t *testing.T, server *embedded.Server, stream string, n int) (all []*natsjs.RawStreamMsg) {
	t.Helper()
	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	for sequence := range n {
		m, err := s.GetMsg(t.Context(), uint64(sequence+1))
		require.NoError(t, err)
		all = append(all, m)
	}
	return all
}

func TestTracing(t *testing.T) {
	t.Parallel()
	t.Run("header and spans", func(t *testing.T) {
		t.Parallel()
		mqtt, server, collector := attesting(t), embeddedNATS(t), otlptest.New(t)
		b := run(t, append(peers(mqtt, server), "BRIDGE_TRACING_RATIO=1", "BRIDGE_TRACING_ENDPOINT="+collector.URL)...)
		waitReady(t, b)
		publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 2)
		publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-2/telemetry", 1) // the topic of another device
		spans := map[string]*tracepb.Span{}
		for _, s := range collector.Spans(3) {
			spans[fmt.Sprintf("00-%x-%x-01", s.TraceId, s.SpanId)] = s
		}
		for _, m := range append(stored(t, server, "TELEMETRY", 2), stored(t, server, "QUARANTINE", 1)...) {
			sum := sha256.Sum256([]byte(m.Header.Get("Nats-Msg-Id")))
			require.Equal(t, fmt.Sprintf("00-%x-%x-01", sum[:16], sum[16:24]), m.Header.Get("traceparent"))
			s := spans[m.Header.Get("traceparent")]
			require.NotNil(t, s, "no span of this message")
			require.Equal(t, m.Subject, otlptest.Attributes(s.Attributes)["messaging.destination.name"])
			if m.Header.Get("Bridge-Reason") == "" {
				require.Equal(t, "send tenant/{tenant}/device/{device}/{type}", s.Name)
				require.Zero(t, s.Status.GetCode())
			} else {
				require.Contains(t, s.Status.Message, "cn_mismatch: the certificate is that of")
			}
		}
		require.Eventually(t, func() bool { return gathered(t, b)["mqttbridge_spans_exported_total"] == 3 }, testrun.Timeout, 10*time.Millisecond)
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		mqtt, server, collector := attesting(t), embeddedNATS(t), otlptest.New(t)
		b := run(t, append(peers(mqtt, server), "BRIDGE_TRACING_ENDPOINT="+collector.URL)...)
		waitReady(t, b)
		publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 1)
		require.Eventually(t, func() bool { return b.Totals().Stored == 1 }, testrun.Timeout, 10*time.Millisecond)
		require.Empty(t, stored(t, server, "TELEMETRY", 1)[0].Header.Values("traceparent"))
		require.NotContains(t, gathered(t, b), "mqttbridge_spans_exported_total")
	})
	t.Run("a collector that hangs", func(t *testing.T) {
		t.Parallel()
		mqtt, server, collector := attesting(t), embeddedNATS(t), otlptest.Hanging(t)
		c, err := config.Load(config.Sources{Env: append(peers(mqtt, server), "BRIDGE_TRACING_RATIO=1", "BRIDGE_TRACING_ENDPOINT="+collector.URL)})
		require.NoError(t, err)
		b, err := Open(t.Context(), Options{Config: c, Log: zerolog.Nop()})
		require.NoError(t, err)
		waitReady(t, b)
		publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 1)
		collector.Asked()
		publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 20)
		require.Eventually(t, func() bool { return b.Totals().Stored == 21 }, testrun.Timeout, 10*time.Millisecond)
		waitReady(t, b)
		require.NoError(t, b.Close(context.Background()))
		require.Equal(t, 21.0, gathered(t, b)["mqttbridge_spans_dropped_total"])
	})
}

// gathered returns the metrics without labels.
func gathered(t *testing.T, b *Bridge) map[string]float64 {
	t.Helper()
	families, err := b.Metrics().Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		if m := f.Metric[0]; len(m.Label) == 0 {
			values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}
