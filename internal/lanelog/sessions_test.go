package lanelog

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestSessionsDeduplication(t *testing.T) {
	t.Parallel()
	book := &bytes.Buffer{}
	c := NewSessions(zerolog.New(book), 2)
	a, b := c.Logger("x-0"), c.Logger("x-1")
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
		var got map[string]any
		require.NoError(t, json.Unmarshal(book.Bytes(), &got), i)
		book.Reset()
		require.Equal(t, step.want, line{got["level"].(string), got["client_id"].(string), got["message"].(string), got["lanes"]}, i)
		if got["message"] == "lost" {
			require.Equal(t, 1000.0, got["lived_ms"])
		}
		require.NotContains(t, got, "lane", "the client id names the lane")
	}
}
