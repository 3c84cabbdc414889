package proof

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

// The streams forget ids after 100 ms here, so that it is not their memory that keeps
// a message from being stored twice.
func TestAReplayKilledAgainAndAgainStoresEachMessageOnce(t *testing.T) {
	t.Parallel()
	const n, kills = 6_000, 8
	random := moments(t)
	server := peers.NATSServer(t, peers.NATSOptions{Config: maxStore})
	js := connectNATS(t, server.URL)
	for name, subject := range map[string]string{"TELEMETRY": "tenant.*.device.*.*", "QUARANTINE": "quarantine.>"} {
		_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{
			Name: name, Subjects: []string{subject}, Duplicates: 100 * time.Millisecond, AllowDirect: true,
		})
		require.NoError(t, err)
	}
	for i := range n {
		device := fmt.Sprintf("dev-%d", i%50)
		m := nats.NewMsg("quarantine.rate_limited.tenant.acme.device." + device + ".telemetry")
		m.Data = fmt.Appendf(nil, "%d", i)
		m.Header.Set("Nats-Msg-Id", fmt.Sprint("id-", i))
		m.Header.Set("Bridge-Cn", "acme/"+device)
		m.Header.Set("Mqtt-Topic", "tenant/acme/device/"+device+"/telemetry")
		_, err := js.PublishMsgAsync(m)
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		require.Fail(t, "no answer from JetStream")
	}
	telemetry, err := js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	quarantine, err := js.Stream(t.Context(), "QUARANTINE")
	require.NoError(t, err)
	stored := func() int {
		info, err := telemetry.Info(t.Context())
		require.NoError(t, err)
		return int(info.State.Msgs)
	}

	replay := peers.Bridge(t, peers.BridgeOptions{
		Args: []string{"quarantine", "replay", "--reason=rate_limited"}, Env: []string{"NATS_URL=" + server.URL},
	})
	killed := 0
	for i := range kills {
		// Somewhere within the next part of all messages.
		until := n*i/(kills+1) + random.IntN(n/(kills+1)) + 1
		eventually(t, func() bool { return stored() >= until }, func() any { return replay.Log().String() })
		replay.Kill9()
		killed++
		if left, err := quarantine.Info(t.Context()); err == nil {
			t.Logf("killed with %d stored, %d in quarantine", stored(), left.State.Msgs)
		}
		time.Sleep(150 * time.Millisecond) // the streams forget the ids
		replay.Start()
	}
	require.Zero(t, replay.Wait(), replay.Log().String())
	require.Equal(t, kills, killed)

	copies := map[string]int{}
	consumer, err := telemetry.OrderedConsumer(t.Context(), natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	for range stored() {
		m, err := consumer.Next(natsjs.FetchMaxWait(patience))
		require.NoError(t, err)
		copies[m.Headers().Get("Nats-Msg-Id")]++
	}
	require.Len(t, copies, n)
	for id, count := range copies {
		require.Equal(t, 1, count, id)
	}
	left, err := quarantine.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, left.State.Msgs, "nothing is left, no claim either")
}
