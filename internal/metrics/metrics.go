// Package metrics exports the counters of a program as Prometheus metrics. Each scrape reads their
// current values.
package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry with the given metrics and those of Go and the process.
func NewRegistry(all ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(all...)
	return r
}

// Program describes the metrics that every program exports.
type Program struct {
	Prefix string // of the metric names
	Name   string // of the program, as in a sentence
	// Version is the version of the program.
	Version string
	// Ready reports whether /readyz succeeds.
	Ready func() bool
	// Expiries return the expiry times of the program's client certificates, by connection, from the
	// present files. They are zero without a certificate. One that cannot be read has no metric: the
	// next connect fails with the reason.
	Expiries map[string]func() (time.Time, error)
}

// Collectors returns the metrics of the program.
func (p Program) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: p.Prefix + "ready", Help: "1 while ready, as /readyz."},
			func() float64 { return Bool(p.Ready()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: p.Prefix + "build_info", Help: "Always 1; the labels are the version of " + p.Name + " and of Go.",
			ConstLabels: prometheus.Labels{"version": p.Version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
		&expiries{p.Expiries, prometheus.NewDesc(p.Prefix+"certificate_expiry_timestamp_seconds",
			"When "+p.Name+"'s client certificate for the connection expires, according to the present file.", []string{"connection"}, nil)},
	}
}

type expiries struct {
	read map[string]func() (time.Time, error)
	desc *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (e *expiries) Describe(out chan<- *prometheus.Desc) { out <- e.desc }

// Collect implements [prometheus.Collector].
func (e *expiries) Collect(out chan<- prometheus.Metric) {
	for connection, read := range e.read {
		if at, err := read(); err == nil && !at.IsZero() {
			out <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(at.Unix()), connection)
		}
	}
}

// List contains the metrics of an S, in the order in which they were added.
type List[S any] struct {
	prefix string
	labels []string
	all    []metric[S]
}

type metric[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) float64
}

// NewList returns a list of metrics whose names begin with prefix and that have these labels.
func NewList[S any](prefix string, labels ...string) *List[S] {
	return &List[S]{prefix: prefix, labels: labels}
}

// Gauge adds a gauge.
func (l *List[S]) Gauge(name, help string, value func(*S) float64) {
	l.all = append(l.all, metric[S]{prometheus.NewDesc(l.prefix+name, help, l.labels, nil), prometheus.GaugeValue, value})
}

// Counter adds a counter.
func (l *List[S]) Counter(name, help string, value func(*S) uint64) {
	l.all = append(l.all, metric[S]{
		prometheus.NewDesc(l.prefix+name, help, l.labels, nil), prometheus.CounterValue,
		func(s *S) float64 { return float64(value(s)) },
	})
}

// Describe implements Describe of [prometheus.Collector].
func (l *List[S]) Describe(out chan<- *prometheus.Desc) {
	for _, m := range l.all {
		out <- m.desc
	}
}

// Collect sends the metrics of s with the given label values.
func (l *List[S]) Collect(out chan<- prometheus.Metric, s *S, values ...string) {
	for _, m := range l.all {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), values...)
	}
}

// CollectCounters sends only the counters.
func (l *List[S]) CollectCounters(out chan<- prometheus.Metric, s *S, values ...string) {
	for _, m := range l.all {
		if m.kind == prometheus.CounterValue {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), values...)
		}
	}
}

// Bool returns 1 for true, otherwise 0.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
