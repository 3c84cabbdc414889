package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// TestPeersLogOnce requires that a problem of several sessions is logged once above debug level.
func TestPeersLogOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	peers := NewPeers(2)
	session := func(id string) *Session {
		peers.join(id)
		return &Session{opts: Options{ClientID: id, Filters: []string{"a/+"}, Peers: peers, Log: zerolog.New(&log)}}
	}
	a, b := session("x-0"), session("x-1")
	lost := func(s *Session, local string) {
		s.status.Connected = true
		s.setLost(time.Second, errors.New("read tcp "+local+"->10.0.0.1:1883: reset"))
	}
	away := func(s *Session, problem string) { s.setLost(0, errors.New(problem+" "+s.opts.ClientID)) }
	up := func(s *Session) { _, _ = s.granted(nil) }
	type line struct {
		Level, Message string
		ID             string `json:"client_id"`
		Lanes          int
		Lived          int `json:"lived_ms"`
	}
	for i, step := range []struct {
		do   func()
		want line
	}{
		{func() { lost(a, "10.0.0.2:40001") }, line{"warn", "mqtt connection lost", "x-0", 2, 1000}},
		{func() { lost(b, "10.0.0.2:40002") }, line{"debug", "mqtt connection lost", "x-1", 0, 1000}},
		{func() { away(b, "refused") }, line{"error", "mqtt not connected", "x-1", 2, 0}},
		{func() { away(a, "refused") }, line{"debug", "mqtt not connected", "x-0", 0, 0}},
		{func() { away(a, "no route") }, line{"error", "mqtt not connected", "x-0", 2, 0}},
		{func() { up(a) }, line{"info", "mqtt connected", "x-0", 0, 0}},
		{func() { up(b) }, line{"info", "mqtt connected", "x-1", 0, 0}},
		// It is over: the next time is news.
		{func() { lost(b, "10.0.0.2:40003") }, line{"warn", "mqtt connection lost", "x-1", 2, 1000}},
		// And so is what one session reports twice.
		{func() { lost(b, "10.0.0.2:40004") }, line{"warn", "mqtt connection lost", "x-1", 2, 1000}},
		{func() { peers.leave("x-1"); lost(a, "10.0.0.2:40005") }, line{"warn", "mqtt connection lost", "x-0", 2, 1000}},
	} {
		step.do()
		var got line
		require.NoError(t, json.Unmarshal(log.Bytes(), &got), "%d: %s", i, &log)
		log.Reset()
		require.Equal(t, step.want, got, i)
	}
}
