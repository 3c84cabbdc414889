package daemon

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/testrun"
)

// logBook is a log that can be read while it is being written.
type logBook struct{ child.Log }

func (b *logBook) lines(t *testing.T) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		all = append(all, fields)
	}
	return all
}

func TestUnreachableBrokerLog(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	c, err := config.Load(config.Sources{Env: []string{"MQTT_URL=mqtt://" + nowhere, "NATS_URL=nats://" + nowhere}})
	require.NoError(t, err)
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.New(book)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(t.Context())) })
	count := func() map[string]int {
		levels := map[string]int{}
		for _, line := range book.lines(t) {
			if line["message"] == "mqtt not connected" {
				levels[line["level"].(string)]++
			}
		}
		return levels
	}
	require.Eventually(t, func() bool { return count()["debug"] == 15 }, testrun.Timeout, 5*time.Millisecond)
	require.Equal(t, map[string]int{"error": 1, "debug": 15}, count())
}
