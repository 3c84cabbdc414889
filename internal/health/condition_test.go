package health_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/health"
)

func TestCondition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := health.New(health.Options{
			Component: "nats", Log: zerolog.New(&log), Failed: "nats not connected", Ended: "nats connected",
			Fields:  func(e *zerolog.Event, _ error) { e.Str("server", "a") },
			Initial: errors.New("not connected yet"),
		})
		lines := func() (all []string) {
			defer log.Reset()
			return strings.Split(strings.TrimSpace(log.String()), "\n")
		}
		begun := time.Now()
		require.Equal(t, []health.Problem{{Component: "nats", Problem: "not connected yet", Since: begun}}, c.Problems())

		time.Sleep(time.Second)
		refused := advice.With(errors.New("refused"), "start it")
		c.Set(refused)
		c.Set(refused) // no news
		require.Equal(t, []string{`{"level":"error","component":"nats","problem":"refused","advice":"start it","server":"a","message":"nats not connected"}`}, lines())
		require.Equal(t, []health.Problem{{Component: "nats", Problem: "refused", Advice: "start it", Since: begun}}, c.Problems())
		c.SetAs(zerolog.WarnLevel, "nats connection lost", errors.New("EOF"))
		require.Equal(t, []string{`{"level":"warn","component":"nats","problem":"EOF","server":"a","message":"nats connection lost"}`}, lines())
		c.SetAs(zerolog.ErrorLevel, "", errors.New("quiet"))
		require.Equal(t, []string{""}, lines())
		require.EqualError(t, c.Err(), "quiet")

		time.Sleep(time.Second)
		c.Set(nil)
		c.Clear() // no news
		require.NoError(t, c.Err())
		require.Empty(t, c.Problems())
		require.Equal(t, []string{`{"level":"info","component":"nats","after_ms":2000,"server":"a","message":"nats connected"}`}, lines())

		time.Sleep(time.Second)
		c.Set(refused)
		require.Equal(t, time.Now(), c.Problems()[0].Since)
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	at := time.Now()
	var all []health.Problem
	for _, p := range []health.Problem{
		{Component: "mqtt", Problem: "away", Since: at, Lanes: []string{"x-0"}},
		{Component: "nats", Problem: "away", Since: at, Lanes: []string{"x-0"}},
		{Component: "mqtt", Problem: "away", Since: at.Add(-1), Lanes: []string{"x-1"}},
		{Component: "mqtt", Problem: "away", Since: at.Add(1), Lanes: []string{"x-2"}},
	} {
		all = health.Merge(all, p)
	}
	require.Equal(t, []health.Problem{
		{Component: "mqtt", Problem: "away", Since: at.Add(-1), Lanes: []string{"x-0", "x-1", "x-2"}},
		{Component: "nats", Problem: "away", Since: at, Lanes: []string{"x-0"}},
	}, all)
}
