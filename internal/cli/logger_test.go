package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

func newLog(t *testing.T, level string) (log zerolog.Logger, of *Level, written func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	log, of, err = NewLogger(f, config.Log{Level: level, Format: "auto"})
	require.NoError(t, err)
	return log, of, func() string {
		text, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		return string(text)
	}
}

// TestLevel changes the level of a log: copies that were made before follow, another log does not.
func TestLevel(t *testing.T) {
	t.Parallel()
	log, level, written := newLog(t, "info")
	other, _, othersWritten := newLog(t, "info")
	copies := map[string]zerolog.Logger{
		"plain": log, "with a field": log.With().Str("lane", "a").Logger(),
		"with a hook": log.Hook(zerolog.HookFunc(func(*zerolog.Event, zerolog.Level, string) {})),
	}
	for name, c := range copies {
		require.Nil(t, c.Debug(), "an event was created that is not shown: %s", name)
	}
	require.NoError(t, level.Set(config.Log{Level: "debug"}))
	for name, c := range copies {
		c.Debug().Msg(name)
		require.Contains(t, written(), name)
	}
	other.Debug().Msg("hidden")
	require.Empty(t, othersWritten())

	require.NoError(t, level.Set(config.Log{Level: "error"}))
	log.Warn().Str("component", "process").Msg("hidden")
	log.Error().Str("component", "process").Msg("shown")
	require.NotContains(t, written(), "hidden")
	require.Contains(t, written(), "shown")

	require.Error(t, level.Set(config.Log{Level: "loud"}))
	require.Nil(t, log.Warn(), "an unknown level changes nothing")
}
