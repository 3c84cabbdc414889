// Package otlptest is a collector for OTLP over HTTP, for tests.
package otlptest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes spans at URL.
type Collector struct {
	URL      string
	requests chan *tracepb.TracesData
	asked    chan struct{}
}

// New starts a collector.
func New(t *testing.T) *Collector {
	c := &Collector{requests: make(chan *tracepb.TracesData, 1000), asked: make(chan struct{}, 1000)}
	c.serve(t, func(w http.ResponseWriter, body []byte) {
		data := &tracepb.TracesData{}
		if proto.Unmarshal(body, data) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.requests <- data
	})
	return c
}

// Hanging starts a collector that takes requests and does not answer.
func Hanging(t *testing.T) *Collector {
	c := &Collector{asked: make(chan struct{}, 1000)}
	end := make(chan struct{})
	c.serve(t, func(http.ResponseWriter, []byte) {
		c.asked <- struct{}{}
		<-end
	})
	t.Cleanup(func() { close(end) })
	return c
}

func (c *Collector) serve(t *testing.T, handle func(http.ResponseWriter, []byte)) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		handle(w, body)
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
}

// Request waits for the next request.
func (c *Collector) Request() *tracepb.TracesData { return <-c.requests }

// Asked waits until a hanging collector has a request.
func (c *Collector) Asked() { <-c.asked }

// Spans waits for n spans.
func (c *Collector) Spans(n int) (all []*tracepb.Span) {
	for len(all) < n {
		all = append(all, Spans(c.Request())...)
	}
	return all
}

// Spans are those of a request.
func Spans(data *tracepb.TracesData) (all []*tracepb.Span) {
	for _, r := range data.ResourceSpans {
		for _, s := range r.ScopeSpans {
			all = append(all, s.Spans...)
		}
	}
	return all
}

// Attributes are texts and numbers by their keys.
func Attributes(all []*commonpb.KeyValue) map[string]string {
	byKey := map[string]string{}
	for _, a := range all {
		byKey[a.Key] = a.Value.GetStringValue()
		if n, ok := a.Value.Value.(*commonpb.AnyValue_IntValue); ok {
			byKey[a.Key] = strconv.FormatInt(n.IntValue, 10)
		}
	}
	return byKey
}
