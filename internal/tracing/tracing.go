// Package tracing exports the spans of sampled messages by OTLP over HTTP.
//
// [Exporter.Stored] and [Exporter.Process] add a span to a queue and never block. One goroutine sends the
// spans in batches. A batch that the collector does not accept within the timeout is dropped, and spans
// that do not fit into the queue are dropped. All dropped spans are counted. No span is sent twice.
package tracing

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

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

// Options configures an exporter. Service is required.
type Options struct {
	// Endpoint is the base URL of the collector. Spans are sent to /v1/traces below it. Empty: no spans.
	Endpoint string
	// Service and Version become service.name and service.version. OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES take precedence.
	Service, Version string
	Log              zerolog.Logger
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
	client *client
	data   *tracepb.TracesData // contains batch and what all spans have in common
	batch  *tracepb.ScopeSpans
}

// Open starts an exporter. It does no I/O before the first span. Without an endpoint it returns nil.
func Open(o Options) *Exporter {
	if o.Endpoint == "" {
		return nil
	}
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
		batch:  &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: "mqtt-nats-bridge", Version: o.Version}},
		health: health.New(health.Options{
			Component: "tracing", Log: o.Log, Warn: true, Once: true,
			Failed: "spans could not be exported and were dropped", Ended: "exporting spans again",
		}),
	}
	program := &resourcepb.Resource{}
	for _, a := range res.Attributes() {
		program.Attributes = append(program.Attributes, text(string(a.Key), a.Value.AsString()))
	}
	e.data = &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{
		{Resource: program, ScopeSpans: []*tracepb.ScopeSpans{e.batch}, SchemaUrl: res.SchemaURL()},
	}}
	go e.run(ctx)
	return e
}

// source is converted to a span in the exporter's goroutine, so that the caller of enqueue does not do
// this work.
type source interface{ span() *tracepb.Span }

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
			e.add(s)
		case <-e.stop:
			e.drain(ctx)
			return
		}
		timer.Reset(batchWait)
		for full := false; !full && len(e.batch.Spans) < batchSize; {
			select {
			case s := <-e.queue:
				e.add(s)
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
		for len(e.queue) > 0 && len(e.batch.Spans) < batchSize {
			e.add(<-e.queue)
		}
		e.export(ctx)
	}
}

// add adds a span to the batch.
func (e *Exporter) add(s source) { e.batch.Spans = append(e.batch.Spans, s.span()) }

// export sends the batch, or drops it on an error.
func (e *Exporter) export(ctx context.Context) {
	n := uint64(len(e.batch.Spans))
	attempt, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := e.client.upload(attempt, e.data)
	clear(e.batch.Spans)
	e.batch.Spans = e.batch.Spans[:0]
	if err != nil {
		e.health.Set(fmt.Errorf("traces export: %w", err))
		e.dropped.Add(n)
		return
	}
	e.health.Clear()
	e.exported.Add(n)
}
