package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTracing(t *testing.T) {
	t.Parallel()
	c := load(t, "tracing: {ratio: 0.05, endpoint: http://collector:4318/}")
	require.Equal(t, Ratio(0.05), c.Tracing.Ratio)
	require.Equal(t, "http://collector:4318", c.Tracing.Endpoint.String())
	require.Equal(t, "https://c/otlp", load(t, "tracing: {ratio: 1, endpoint: https://c/otlp}").Tracing.Endpoint.String())
	require.Zero(t, load(t, "").Tracing)
	require.Contains(t, strings.Join(load(t, "tracing: {endpoint: http://c:4318}").Warnings(), "\n"), "tracing.endpoint: is not used while tracing.ratio is 0: no message is sampled")
	for text, want := range map[string]string{
		"{ratio: 1.5}":                          `"1.5" is out of range; write 0 to 1`,
		"{ratio: -0.1}":                         `"-0.1" is out of range; write 0 to 1`,
		"{ratio: NaN}":                          `"NaN" is not a ratio; write it like 0.01`,
		"{ratio: 5%}":                           `"5%" is not a ratio; write it like 0.01`,
		"{endpoint: collector:4318}":            `"collector:4318" is not a URL: it has no scheme://; write it like http://otel-collector:4318`,
		"{endpoint: 'grpc://c:4317'}":           `"grpc://c:4317" has the unknown scheme "grpc"; write it like http://otel-collector:4318`,
		"{endpoint: 'http://u:hunter2@c:4318'}": `the URL (not shown, it contains credentials); remove the credentials, and run a local collector that adds them`,
		"{endpoint: 'http://c:4318/?a=b'}":      `"http://c:4318/?a=b" has a query; write it like http://otel-collector:4318`,
	} {
		_, err := Load(Sources{File: write(t, "bridge.yaml", "tracing: "+text)})
		require.ErrorContains(t, err, want, text)
	}
}
