package ingest

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"mqtt-nats-bridge/internal/otlptest"
)

// A message that the bridge has sampled has a span below the bridge's, whatever its result;
// other messages have none.
func aTraceIsContinued(t *testing.T, r *rig) {
	collector := otlptest.New(t)
	traced := func(m message, parent string) message {
		m.headers = maps.Clone(m.headers)
		m.headers["traceparent"] = parent
		return m
	}
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	r.publish(
		telemetry("m0", `{"a":0}`),
		traced(telemetry("m1", `{"a":1}`), trace+"-01"),
		traced(telemetry("m2", `{"a":2}`), trace+"-00"),
		traced(telemetry("m3", `not JSON`), trace+"-01"),
	)
	r.ingest("tracing.endpoint=" + collector.URL)
	byID := map[string]*tracepb.Span{}
	for _, s := range collector.Spans(2) {
		byID[otlptest.Attributes(s.Attributes)["messaging.message.id"]] = s
		require.Equal(t, []byte{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c}, s.TraceId)
		require.Equal(t, []byte{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}, s.ParentSpanId)
		require.Equal(t, "process TELEMETRY", s.Name)
	}
	require.Len(t, byID, 2)
	require.Zero(t, byID["m1"].Status.GetCode())
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, byID["m3"].Status.Code)
	require.Contains(t, byID["m3"].Status.Message, "JSON")
	require.Equal(t, "telemetry", otlptest.Attributes(byID["m1"].Attributes)["db.collection.name"])
	r.settled()
	require.Len(t, r.query(`SELECT msg_id FROM telemetry`), 3)
}
