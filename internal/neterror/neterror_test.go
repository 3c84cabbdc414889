package neterror_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/neterror"
)

func TestWithoutLocalAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"read tcp 127.0.0.1:40001->127.0.0.1:1883: connection reset": "read tcp 127.0.0.1:1883: connection reset",
		"read tcp [::1]:40002->[::1]:1883: connection reset":         "read tcp [::1]:1883: connection reset",
		"127.0.0.1:40001->127.0.0.1:1883":                            "127.0.0.1:1883",
		"connect to emqx:1883: broker unreachable":                   "connect to emqx:1883: broker unreachable",
	} {
		require.Equal(t, want, neterror.WithoutLocalAddress(text))
	}
}
