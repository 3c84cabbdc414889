package ingest

import (
	"errors"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/tracing"
	"mqtt-nats-bridge/jetstream/consume"
)

// trace records one span per sampled message of a batch, so that each message has one complete
// trace. A span per batch would link to hundreds of traces.
func (w *writer) trace(batch []*consume.Message, begun time.Time) {
	if w.tracing == nil {
		return
	}
	ended := time.Now()
	for _, m := range batch {
		p := &tracing.Processed{
			TraceParent: m.Header.Get(bridge.HeaderTraceParent), Stream: w.stream, Consumer: w.consumer, Table: w.table.name,
			Subject: m.Subject, MessageID: m.ID(), Size: len(m.Data), Begun: begun, Ended: ended, Err: m.Err(),
			ErrType: verdict.BadPayload.String(),
		}
		if errors.Is(p.Err, consume.ErrRedelivery) {
			p.ErrType = "redelivery"
		}
		w.tracing.Process(p)
	}
}
