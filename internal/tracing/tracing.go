// Package tracing exports the spans of sampled messages by OTLP over HTTP.
//
// [Exporter.Stored] and [Exporter.Process] put a span into a queue and never wait. One goroutine takes batches out of
// it and sends them; a batch that the collector does not take within the timeout is dropped, and
// so is what does not fit into the queue by then. Both are counted. Nothing is sent twice.
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
	// queueSize is how many spans wait for the collector at most.
	queueSize = 4096
	batchSize = 512
	// batchWait is how long a batch waits to fill.
	batchWait = time.Second
	// exportTimeout bounds one request to the collector.
	exportTimeout = 10 * time.Second
	closeTimeout  = 2 * time.Second
)

// Options of an exporter. Endpoint and Service are required.
type Options struct {
	// Endpoint is the base URL of the collector; spans go to /v1/traces below it.
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
	// Start and End are in ns since the epoch.
	Start, End int64
	// Err is why the message failed; empty: it did not.
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
	next     *Span // whose ids the tracer asks for
}

// Open starts an exporter. It does no I/O before the first span.
func Open(o Options) *Exporter {
	about, err := resource.New(context.Background(),
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
		sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator((*ids)(e)), sdktrace.WithSpanProcessor((*collected)(e)),
	).Tracer("mqtt-nats-bridge", trace.WithInstrumentationVersion(o.Version))
	go e.run(ctx)
	return e
}

// source is what becomes a span in the exporter's goroutine: the caller of enqueue does not wait for that.
type source interface{ span() *Span }

// enqueue exports a span, later. It never waits: a span for which there is no room is dropped.
func (e *Exporter) enqueue(s source) {
	select {
	case e.queue <- s:
	default:
		e.dropped.Add(1)
	}
}

// Metrics are the counts as metrics whose names begin with prefix.
func (e *Exporter) Metrics(prefix string) []prometheus.Collector {
	if e == nil {
		return nil
	}
	counter := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: prefix + name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	return []prometheus.Collector{
		counter("spans_exported_total", "Spans that the collector at tracing.endpoint took.", &e.exported),
		counter("spans_dropped_total", "Spans dropped because the collector did not take them in time.", &e.dropped),
	}
}

// Close exports what is queued, for two seconds at most or until ctx ends. What is recorded
// after it is not exported.
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

// drain exports what is left in the queue.
func (e *Exporter) drain(ctx context.Context) {
	for len(e.queue) > 0 {
		for len(e.queue) > 0 && len(e.ended) < batchSize {
			e.end(<-e.queue)
		}
		e.export(ctx)
	}
}

// end converts the span to one of the SDK's, which appends it to e.ended.
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

// export sends what has ended, or drops it.
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

// ids gives the SDK the ids of the span that is being ended.
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

// collected is the SDK's processor: spans end in e.ended.
type collected Exporter

// OnStart implements [sdktrace.SpanProcessor].
func (c *collected) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (c *collected) OnEnd(s sdktrace.ReadOnlySpan) { c.ended = append(c.ended, s) }

// ForceFlush implements [sdktrace.SpanProcessor].
func (c *collected) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdktrace.SpanProcessor].
func (c *collected) Shutdown(context.Context) error { return nil }
