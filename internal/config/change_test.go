package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/schema"
)

func TestReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("one")
	a := load(t, "limits: {device: {rate: 5}}\nnats: {user: x, password: one}\nmqtt: {username: x, password_file: "+file+"}")
	write("two")
	b := load(t, "limits: {device: {rate: 6}, payload: 1KiB}\nnats: {user: x, password: two}\nmqtt: {username: x, password_file: "+file+"}\ntopics: ['a/{tenant}/{device}']\nlog: {level: debug}")

	now, changed, restart := schema.Reload(a, b, "limits.device", "log.level")
	require.Equal(t, []string{"mqtt.password", "limits.device.rate", "log.level"}, changed)
	require.Equal(t, []string{"topics", "limits.payload", "nats.password"}, restart)
	require.Equal(t, Rate(5), a.Limits.Device.Rate, "the old one stays as it was")
	require.Equal(t, Rate(6), now.Limits.Device.Rate)
	require.Equal(t, a.Topics, now.Topics)

	_, changed, again := schema.Reload(now, b, "limits.device", "log.level")
	require.Empty(t, changed)
	require.Equal(t, restart, again)
}
