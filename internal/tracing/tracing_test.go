package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/otlptest"
)

func open(t *testing.T, endpoint string, log io.Writer) *Exporter {
	t.Helper()
	e := Open(Options{Endpoint: endpoint, Service: "bridge", Version: "v1", Log: zerolog.New(log)})
	t.Cleanup(func() { closeWithin(e, 0) })
	return e
}

// span is a span as it is sent.
type span tracepb.Span

func (s *span) span() *tracepb.Span { return (*tracepb.Span)(s) }

// counts are the spans that the collector took and those that were dropped.
func (e *Exporter) counts() (exported, dropped uint64) { return e.exported.Load(), e.dropped.Load() }

func closeWithin(e *Exporter, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	e.close(ctx)
}

func TestExporter(t *testing.T) {
	t.Parallel()
	t.Run("spans of the bridge", func(t *testing.T) {
		t.Parallel()
		c := otlptest.New(t)
		e := open(t, c.URL, io.Discard)
		id := bridge.NewTraceContext([]byte("bridge-0-abc"))
		e.Stored(&bridge.Span{
			TraceContext: id, Lane: "bridge-0", MessageID: "bridge-0-abc", Subject: "tenant.a.device.b.t", Pattern: "tenant/{tenant}/#",
			Size: 12, Received: 1e18, Settled: 1e18 + 3e6,
		})
		e.Stored(&bridge.Span{Subject: "quarantine.\xff", MessageID: "\xff", Reason: verdict.RateLimited, Detail: "too fast\xff", Received: 5, Settled: 4})
		data := c.Request()
		closeWithin(e, time.Minute)
		require.Equal(t, map[string]string{"service.name": "bridge", "service.version": "v1"}, otlptest.Attributes(data.ResourceSpans[0].Resource.Attributes))
		all := otlptest.Spans(data)
		if len(all) < 2 {
			all = append(all, c.Spans(2-len(all))...)
		}
		s := all[0]
		require.Equal(t, id.TraceID[:], s.TraceId)
		require.Equal(t, id.SpanID[:], s.SpanId)
		require.Empty(t, s.ParentSpanId)
		require.EqualValues(t, 0x101, s.Flags, "sampled, without a remote parent")
		require.Equal(t, "send tenant/{tenant}/#", s.Name)
		require.Equal(t, tracepb.Span_SPAN_KIND_PRODUCER, s.Kind)
		require.Equal(t, []uint64{1e18, 1e18 + 3e6}, []uint64{s.StartTimeUnixNano, s.EndTimeUnixNano})
		require.Equal(t, map[string]string{
			"messaging.system": "nats", "messaging.operation.name": "send", "messaging.operation.type": "send",
			"messaging.destination.name": "tenant.a.device.b.t", "messaging.client.id": "bridge-0",
			"messaging.message.id": "bridge-0-abc", "messaging.message.body.size": "12",
		}, otlptest.Attributes(s.Attributes))
		require.Equal(t, tracepb.Status_STATUS_CODE_UNSET, s.Status.GetCode())
		require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, all[1].Status.Code)
		require.Equal(t, "rate_limited: too fast?", all[1].Status.Message)
		require.Equal(t, "rate_limited", otlptest.Attributes(all[1].Attributes)["error.type"])
		exported, dropped := e.counts()
		require.Equal(t, []uint64{2, 0}, []uint64{exported, dropped})
	})
	t.Run("a span with a parent", func(t *testing.T) {
		t.Parallel()
		c := otlptest.New(t)
		e := open(t, c.URL+"/v1/traces", io.Discard)
		e.Process(&Processed{TraceParent: "00-01000000000000000000000000000000-0200000000000000-01"})
		closeWithin(e, time.Minute)
		s := c.Spans(1)[0]
		require.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, s.TraceId)
		require.Equal(t, []byte{2, 0, 0, 0, 0, 0, 0, 0}, s.ParentSpanId)
		require.Len(t, s.SpanId, 8)
		require.NotEqual(t, make([]byte, 8), s.SpanId)
		require.EqualValues(t, 0x301, s.Flags, "sampled, with a remote parent")
	})
	t.Run("batches without Close", func(t *testing.T) {
		t.Parallel()
		c := otlptest.New(t)
		e := open(t, c.URL, io.Discard)
		e.enqueue(&span{Name: "x", TraceId: make([]byte, 16)})
		c.Spans(1)
	})
	t.Run("a collector that refuses", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		c := otlptest.New(t)
		e := open(t, c.URL+"/elsewhere", &log)
		for range batchSize + 1 {
			e.enqueue(&span{Name: "x", TraceId: make([]byte, 16)})
		}
		closeWithin(e, time.Minute)
		exported, dropped := e.counts()
		require.Equal(t, []uint64{0, batchSize + 1}, []uint64{exported, dropped})
		require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")), log.String())
		require.Contains(t, log.String(), "collector answered 400 Bad Request")
	})
}

// TestExporterBehindACollectorThatHangs requires that spans beyond the queue are dropped, no
// caller waits, and Close respects its context.
func TestExporterBehindACollectorThatHangs(t *testing.T) {
	t.Parallel()
	c := otlptest.Hanging(t)
	e := open(t, c.URL, io.Discard)
	e.enqueue(&span{Name: "x", TraceId: make([]byte, 16)})
	c.Asked() // the exporter waits
	for range queueSize + 100 {
		e.enqueue(&span{Name: "x", TraceId: make([]byte, 16)})
	}
	_, dropped := e.counts()
	require.Equal(t, uint64(100), dropped)
	closeWithin(e, 0)
	exported, dropped := e.counts()
	require.Zero(t, exported)
	require.Equal(t, uint64(queueSize+101), dropped)
}

// TestSampledAsOpenTelemetry compares the bridge's decision with that of the SDK's sampler.
func TestSampledAsOpenTelemetry(t *testing.T) {
	t.Parallel()
	for _, ratio := range []float64{0, 0.001, 0.3, 0.999, 1} {
		sampler := sdktrace.TraceIDRatioBased(ratio)
		for i := range 2000 {
			c := bridge.NewTraceContext(fmt.Appendf(nil, "%d", i))
			want := sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: c.TraceID}).Decision
			require.Equal(t, want == sdktrace.RecordAndSample, c.Sampled(ratio))
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExporterOfConsumers(t *testing.T) {
	t.Parallel()
	c := otlptest.New(t)
	e := open(t, c.URL, io.Discard)
	for _, parent := range []string{"", "x", "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-00", "00-00000000000000000000000000000000-0102030405060708-01"} {
		e.Process(&Processed{TraceParent: parent})
	}
	e.Process(&Processed{
		TraceParent: "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01", Stream: "S", Consumer: "c", Subject: "a.b", MessageID: "m", Table: "t",
		Begun: time.Unix(1, 0), Ended: time.Unix(2, 0), Err: errors.New("no row"), ErrType: "bad_payload",
	})
	closeWithin(e, time.Minute)
	all := otlptest.Spans(c.Request())
	require.Len(t, all, 1)
	s := all[0]
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, s.TraceId)
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, s.ParentSpanId)
	require.Equal(t, "process S", s.Name)
	require.Equal(t, tracepb.Span_SPAN_KIND_CONSUMER, s.Kind)
	require.Equal(t, "no row", s.Status.Message)
	require.Equal(t, map[string]string{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "a.b", "messaging.consumer.group.name": "c", "messaging.message.id": "m",
		"messaging.message.body.size": "0", "db.collection.name": "t", "error.type": "bad_payload",
	}, otlptest.Attributes(s.Attributes))
}
