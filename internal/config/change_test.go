package config

import (
	"testing"

	"mqtt-nats-bridge/internal/schema"

	"github.com/stretchr/testify/require"
)

func TestWhatDiffersIsNamed(t *testing.T) {
	t.Parallel()
	a := load(t, "limits: {device: {rate: 5}}\nnats: {user: x, password: one}")
	b := load(t, "limits: {device: {rate: 6}}\nnats: {user: x, password: two}\ntopics: ['a/{tenant}/{device}']\nlog: {level: debug}")
	require.Equal(t, []string{"topics", "limits.device.rate", "nats.password", "log.level"}, schema.Differences(a, b))
	require.Empty(t, schema.Differences(a, a))
	next := schema.With(a, b, "limits.device.rate", "log.level")
	require.Equal(t, []string{"topics", "nats.password"}, schema.Differences(next, b))
	require.Equal(t, Rate(5), a.Limits.Device.Rate, "the old one stays as it was")
}
