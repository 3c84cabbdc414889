// Package tracing exports the spans of sampled messages by OTLP over HTTP.
//
// [Exporter.Stored] and [Exporter.Process] add a span to a queue and never block. One goroutine sends the
// spans in batches. A batch that the collector does not accept within the timeout is dropped, and spans
// that do not fit into the queue are dropped. All dropped spans are counted. No span is sent twice.
package tracing

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"mqtt-nats-bridge/internal/health"
)

const (
	// queueSize is the maximum number of spans that wait for the collector.
	queueSize = 4096
	batchSize = 512
	// batchWait is the maximum time that a batch waits to fill.
	batchWait = time.Second
	// exportTimeout bounds one request to the collector.
	exportTimeout = 10 * time.Second
	closeTimeout  = 2 * time.Second
)

// Options configures an exporter. Endpoint and Service are required.
type Options struct {
	// Endpoint is the base URL of the collector. Spans are sent to /v1/traces below it.
	Endpoint string
	// Service and Version become service.name and service.version. OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES take precedence.
	Service, Version string
	Log              zerolog.Logger
}

// Span is one span to export.
type Span struct {
	Name   string
	Kind   trace.SpanKind
	Trace  trace.TraceID
	ID     trace.SpanID // zero: a random one
	Parent trace.SpanID // zero: none
	// Start and End are in ns since the Unix epoch.
	Start, End int64
	// Err is the reason why the message failed; empty: it succeeded.
	Err        string
	Attributes []attribute.KeyValue
}

// Exporter sends spans to a collector.
type Exporter struct {
	queue    chan source
	stop     chan struct{}
	done     chan struct{}
	cancel   context.CancelFunc
	once     sync.Once
	exported atomic.Uint64
	dropped  atomic.Uint64
	health   *health.Condition

	// Used only by the goroutine of run.
	client   *client
	exporter *otlptrace.Exporter
	tracer   trace.Tracer
	ended    []sdktrace.ReadOnlySpan
	next     *Span // the span whose ids the tracer requests
}

// Open starts an exporter. It does no I/O before the first span.
func Open(o Options) *Exporter {
	res, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", o.Service), attribute.String("service.version", o.Version)),
		resource.WithFromEnv())
	if err != nil {
		o.Log.Warn().Str("component", "tracing").AnErr("problem", err).Msg("OTEL_RESOURCE_ATTRIBUTES could not be read")
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exporter{
		queue: make(chan source, queueSize), stop: make(chan struct{}), done: make(chan struct{}), cancel: cancel,
		client: newClient(o.Endpoint),
		health: health.New(health.Options{
			Component: "tracing", Log: o.Log, Warn: true, Once: true,
			Failed: "spans could not be exported and were dropped", Ended: "exporting spans again",
		}),
	}
	e.exporter = otlptrace.NewUnstarted(e.client)
	e.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator((*ids)(e)), sdktrace.WithSpanProcessor((*collected)(e)),
	).Tracer("mqtt-nats-bridge", trace.WithInstrumentationVersion(o.Version))
	go e.run(ctx)
	return e
}

// source is converted to a span in the exporter's goroutine, so that the caller of enqueue does not do
// this work.
type source interface{ span() *Span }

// enqueue adds a span to the queue. It never blocks: if the queue is full, the span is dropped.
func (e *Exporter) enqueue(s source) {
	select {
	case e.queue <- s:
	default:
		e.dropped.Add(1)
	}
}

// Metrics returns the counters as metrics whose names begin with prefix.
func (e *Exporter) Metrics(prefix string) []prometheus.Collector {
	if e == nil {
		return nil
	}
	counter := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: prefix + name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	return []prometheus.Collector{
		counter("spans_exported_total", "Spans that the collector at tracing.endpoint accepted.", &e.exported),
		counter("spans_dropped_total", "Spans dropped because the collector did not accept them in time.", &e.dropped),
	}
}

// Close exports the queued spans, for at most two seconds or until ctx ends. Spans that are recorded
// later are not exported.
func (e *Exporter) Close(ctx context.Context) {
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	e.close(ctx)
}

func (e *Exporter) close(ctx context.Context) {
	e.once.Do(func() { close(e.stop) })
	defer context.AfterFunc(ctx, e.cancel)()
	<-e.done
	e.cancel()
}

func (e *Exporter) run(ctx context.Context) {
	defer close(e.done)
	defer e.client.http.CloseIdleConnections()
	timer := time.NewTimer(batchWait)
	defer timer.Stop()
	for {
		select {
		case s := <-e.queue:
			e.end(s)
		case <-e.stop:
			e.drain(ctx)
			return
		}
		timer.Reset(batchWait)
		for full := false; !full && len(e.ended) < batchSize; {
			select {
			case s := <-e.queue:
				e.end(s)
			case <-timer.C:
				full = true
			case <-e.stop:
				full = true
			}
		}
		e.export(ctx)
	}
}

// drain exports the spans that remain in the queue.
func (e *Exporter) drain(ctx context.Context) {
	for len(e.queue) > 0 {
		for len(e.queue) > 0 && len(e.ended) < batchSize {
			e.end(<-e.queue)
		}
		e.export(ctx)
	}
}

// end converts a span to a span of the SDK, which appends it to e.ended.
func (e *Exporter) end(queued source) {
	s := queued.span()
	e.next = s
	ctx := context.Background()
	if s.Parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: s.Trace, SpanID: s.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	_, span := e.tracer.Start(ctx, s.Name, trace.WithSpanKind(s.Kind), trace.WithTimestamp(time.Unix(0, s.Start)), trace.WithAttributes(s.Attributes...))
	if s.Err != "" {
		span.SetStatus(codes.Error, valid(s.Err))
	}
	span.End(trace.WithTimestamp(time.Unix(0, max(s.Start, s.End))))
}

// export sends the ended spans, or drops them on an error.
func (e *Exporter) export(ctx context.Context) {
	n := uint64(len(e.ended))
	attempt, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := e.exporter.ExportSpans(attempt, e.ended)
	clear(e.ended)
	e.ended = e.ended[:0]
	e.health.Set(err)
	if err != nil {
		e.dropped.Add(n)
		return
	}
	e.exported.Add(n)
}

// ids provides the SDK with the ids of the span that is being converted.
type ids Exporter

// NewIDs implements [sdktrace.IDGenerator].
func (i *ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	return i.next.Trace, i.NewSpanID(ctx, i.next.Trace)
}

// NewSpanID implements [sdktrace.IDGenerator].
func (i *ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	id := i.next.ID
	for !id.IsValid() {
		for at := range id {
			id[at] = byte(rand.Uint32())
		}
	}
	return id
}

// collected is a span processor of the SDK that appends spans to e.ended.
type collected Exporter

// OnStart implements [sdktrace.SpanProcessor].
func (c *collected) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (c *collected) OnEnd(s sdktrace.ReadOnlySpan) { c.ended = append(c.ended, s) }

// ForceFlush implements [sdktrace.SpanProcessor].
func (c *collected) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdktrace.SpanProcessor].
func (c *collected) Shutdown(context.Context) error { return nil }
