package publish_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/publish"
)

// A subscriber receives the messages and never answers, so the publisher would resend them.
func TestPublisherFence(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	nc, err := nats.Connect(s.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	seen := make(chan string, 100)
	_, err = nc.Subscribe("t.>", func(m *nats.Msg) { seen <- string(m.Data) })
	require.NoError(t, err)
	require.NoError(t, nc.Flush())

	var fenced atomic.Bool
	var asked atomic.Int64
	fenced.Store(true)
	p := publisher(t, s.URL(), natstest.NewOutcomes(t), func(o *publish.Options) {
		o.AckTimeout = 100 * time.Millisecond
		o.Fenced = func() bool { asked.Add(1); return fenced.Load() }
	}).Prove()
	require.Eventually(t, func() bool { return p.Stats().Connected }, testrun.Timeout, time.Millisecond)
	b := &numbered{}
	p.Publish(b.message(1))
	require.Equal(t, "1", natstest.Receive(t, "the first sending", seen))
	require.Eventually(t, func() bool { return asked.Load() >= 5 }, testrun.Timeout, time.Millisecond)
	require.NoError(t, nc.Flush())
	require.Empty(t, seen, "it would have been sent again five times")
	require.Zero(t, p.Stats().Resent)
	fenced.Store(false)
	require.Equal(t, "1", natstest.Receive(t, "the second sending", seen))
}
