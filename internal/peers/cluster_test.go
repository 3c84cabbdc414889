package peers

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

func TestClusterLeaderLoss(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "waits for elections, as do all tests that use a cluster")
	c := Cluster(t)
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.Timeout(testrun.Timeout),
		// The client may be connected to the frozen node, which does not close the connection.
		nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
	require.NoError(t, err)
	store := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := js.Publish(t.Context(), "s.1", nil, natsjs.WithMsgID("once"))
			return err == nil
		}, 2*testrun.Timeout, 50*time.Millisecond)
	}
	store()
	first := c.Leader("S")
	first.Kill9()
	store()
	second := c.Leader("S")
	require.NotEqual(t, first.URL, second.URL)
	first.Start()
	c.AwaitCurrent("S")

	c.StepDown("S")
	store()
	third := c.Leader("S")
	third.Freeze()
	require.Eventually(t, func() bool { return c.Leader("S") != third }, 2*testrun.Timeout, 50*time.Millisecond)
	store()
	third.Thaw()
	c.RollingRestart("S")
	store()
	s, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, s.CachedInfo().State.Msgs, "one id, one message, whichever leads")
}
