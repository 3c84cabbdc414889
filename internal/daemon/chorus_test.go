package daemon

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

// logBook is a log that can be read while it is written.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBook) lines(t *testing.T) (all []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		all = append(all, fields)
	}
	return all
}

func TestWhatAllSessionsSayIsLoggedOnce(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	c := newLogDedup(zerolog.New(book), 2)
	a, b := c.logger("x-0"), c.logger("x-1")
	lost := func(log zerolog.Logger, id, local string) {
		log.Warn().Str("client_id", id).Str("problem", "read tcp "+local+"->10.0.0.1:1883: reset").Dur("lived_ms", time.Second).Msg("lost")
	}
	away := func(log zerolog.Logger, id, problem string) {
		log.Error().Str("client_id", id).Str("problem", problem+" "+id).Msg("away")
	}
	up := func(log zerolog.Logger, id string) {
		log.Info().Str("client_id", id).Strs("granted", []string{"a/+"}).Msg("up")
	}
	type line struct {
		level, id, message string
		lanes              any
	}
	steps := []struct {
		do   func()
		want line
	}{
		{func() { lost(a, "x-0", "10.0.0.2:40001") }, line{"warn", "x-0", "lost", 2.0}},
		{func() { lost(b, "x-1", "10.0.0.2:40002") }, line{"debug", "x-1", "lost", nil}},
		{func() { away(b, "x-1", "refused") }, line{"error", "x-1", "away", 2.0}},
		{func() { away(a, "x-0", "refused") }, line{"debug", "x-0", "away", nil}},
		{func() { away(a, "x-0", "no route") }, line{"error", "x-0", "away", 2.0}},
		{func() { up(a, "x-0") }, line{"info", "x-0", "up", nil}},
		{func() { up(b, "x-1") }, line{"info", "x-1", "up", nil}},
		// It is over: the next time is news.
		{func() { lost(b, "x-1", "10.0.0.2:40003") }, line{"warn", "x-1", "lost", 2.0}},
		// And so is what one session says twice.
		{func() { lost(b, "x-1", "10.0.0.2:40004") }, line{"warn", "x-1", "lost", 2.0}},
	}
	for i, step := range steps {
		step.do()
		all := book.lines(t)
		require.Len(t, all, i+1)
		got := all[i]
		require.Equal(t, step.want, line{got["level"].(string), got["client_id"].(string), got["message"].(string), got["lanes"]}, i)
		if got["message"] == "lost" {
			require.Equal(t, 1000.0, got["lived_ms"])
		}
		require.NotContains(t, got, "lane", "the client id names the lane")
	}
}

func TestABrokerThatIsAwayIsOneLineOfTheLog(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	c, err := config.Load(config.Sources{Env: []string{"MQTT_URL=mqtt://" + nowhere, "NATS_URL=nats://" + nowhere}})
	require.NoError(t, err)
	b, err := Start(t.Context(), Options{Config: c, Log: zerolog.New(book)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Stop(t.Context())) })
	count := func() map[string]int {
		levels := map[string]int{}
		for _, line := range book.lines(t) {
			if line["message"] == "mqtt not connected" {
				levels[line["level"].(string)]++
			}
		}
		return levels
	}
	require.Eventually(t, func() bool { return count()["debug"] == 15 }, patience, 5*time.Millisecond)
	require.Equal(t, map[string]int{"error": 1, "debug": 15}, count())
}
