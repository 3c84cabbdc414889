package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

// Tracing configures trace contexts in the stored messages, and spans.
type Tracing struct {
	Ratio    Ratio        `yaml:"ratio" default:"0" min:"0" max:"1" doc:"The share of messages that is sampled: 0.01 is one in a hundred. If it is above 0, every stored message has the header traceparent. 0: no header."`
	Endpoint CollectorURL `yaml:"endpoint" doc:"The URL of a collector for OTLP over HTTP, like http://otel-collector:4318. It receives a span for each sampled message. Empty: no spans."`
}

// IngestTracing configures spans of messages that carry a trace context.
type IngestTracing struct {
	Endpoint CollectorURL `yaml:"endpoint" doc:"The URL of a collector for OTLP over HTTP, like http://otel-collector:4318. It receives a span for each message that the bridge has sampled. Empty: no spans."`
}

// Ratio is a share, from 0 to 1.
type Ratio float64

// Kind returns the name of the type in the reference.
func (r *Ratio) Kind() string { return "ratio" }

// Parse reads the value of a key.
func (r *Ratio) Parse(text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || strings.ContainsAny(text, "xXpP_") {
		return fmt.Errorf("%s is not a ratio; write it like 0.01", schema.Quote(text))
	}
	*r = Ratio(f)
	return nil
}

// String returns the ratio in a form that Parse accepts.
func (r Ratio) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) }

// CollectorURL is the base URL of a collector for OTLP over HTTP.
type CollectorURL struct{ baseURL }

var collectorRules = urlRules{
	example: "write it like http://otel-collector:4318",
	schemes: []string{"http", "https"}, paths: []string{"http", "https"},
	instead: "run a local collector that adds them",
}

// Parse reads the value of a key.
func (c *CollectorURL) Parse(text string) error { return c.parse(text, &collectorRules) }
