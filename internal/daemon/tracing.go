package daemon

import (
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/tracing"
)

// openTracing opens the span exporter. It returns nil if tracing is off.
func openTracing(c *config.Config, version string, log zerolog.Logger) *tracing.Exporter {
	if c.Tracing.Ratio == 0 {
		return nil
	}
	return tracing.Open(tracing.Options{Endpoint: c.Tracing.Endpoint.String(), Service: "mqtt-nats-bridge", Version: version, Log: log})
}

// laneTracing returns the tracing of the lanes; nil: messages have no trace context.
func (b *Bridge) laneTracing() *bridge.Tracing {
	ratio := float64(b.opts.Config.Tracing.Ratio)
	if ratio == 0 {
		return nil
	}
	t := &bridge.Tracing{Ratio: ratio}
	if b.tracing != nil {
		t.Record = b.tracing.Stored
	}
	return t
}
