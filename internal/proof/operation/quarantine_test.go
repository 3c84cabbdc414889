package operation

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/streams"
)

// With a duplicate window of 100 ms, JetStream's deduplication does not prevent a second copy
// here; the replay has to.
func TestReplayKilled(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "eight runs of a program")
	const n, kills = 6_000, 8
	random := proof.Random(t)
	server := peers.NATSServer(t, peers.NATSOptions{})
	js := proof.ConnectNATS(t, server.URL)
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
		_, err := js.PublishMsgAsync(m, natsjs.WithStallWait(testrun.Timeout))
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(testrun.Timeout):
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
		// A random position in the next part of the messages.
		until := n*i/(kills+1) + random.IntN(n/(kills+1)) + 1
		proof.Eventually(t, func() bool { return stored() >= until }, func() any { return replay.Log().Tail(4 << 10) })
		replay.Kill9()
		killed++
		if left, err := quarantine.Info(t.Context()); err == nil {
			t.Logf("killed with %d stored, %d in quarantine", stored(), left.State.Msgs)
		}
		time.Sleep(150 * time.Millisecond) // let the duplicate window pass
		replay.Start()
	}
	require.Zero(t, replay.Wait(), replay.Log().Tail(4<<10))
	require.Equal(t, kills, killed)

	copies := map[string]int{}
	consumer, err := telemetry.OrderedConsumer(t.Context(), natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	for range stored() {
		m, err := consumer.Next(natsjs.FetchMaxWait(testrun.Timeout))
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

// Not parallel: the passwords come from the environment.
func TestReplayPermissions(t *testing.T) {
	t.Parallel()
	shipped, err := os.ReadFile("../../../nats.conf")
	require.NoError(t, err)
	const before = `"$SYS.REQ.USER.INFO"`
	require.Equal(t, 1, strings.Count(string(shipped), before), "the operator's list")
	allowed := strings.Replace(string(shipped), before, before+"\n\"tenant.>\"\n\"quarantine.replay\"", 1)
	defaults, err := config.Load(config.Sources{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		config, says string
		code         int
	}{
		"as shipped":                  {string(shipped), `Permissions Violation for Publish to "quarantine.replay"`, 1},
		"with the permission":         {allowed, "1 selected, 1 stored", 0},
		"with but half of the two":    {strings.Replace(allowed, `"tenant.>"`+"\n\"quarantine", `"quarantine`, 1), `Permissions Violation for Publish to "tenant.acme.device.dev-1.telemetry"`, 1},
		"with both and nothing there": {allowed, "0 selected, 0 stored", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := peers.NATSServer(t, peers.NATSOptions{Config: c.config})
			bridge := proof.ConnectNATS(t, server.URL, nats.UserInfo("bridge", passwords["bridge"]), nats.CustomInboxPrefix("_INBOX.bridge"))
			plan, err := plan.Compile(defaults)
			require.NoError(t, err)
			_, err = streams.Manage(t.Context(), bridge, streams.ManageCreate, plan.Streams, plan.Consumers)
			require.NoError(t, err)
			if !strings.Contains(name, "nothing") {
				m := nats.NewMsg("quarantine.rate_limited.tenant.acme.device.dev-1.telemetry")
				m.Header = nats.Header{"Nats-Msg-Id": {"1"}, "Bridge-Cn": {"acme/dev-1"}, "Mqtt-Topic": {"tenant/acme/device/dev-1/telemetry"}}
				_, err = bridge.PublishMsg(t.Context(), m)
				require.NoError(t, err)
			}
			replay := peers.Bridge(t, peers.BridgeOptions{
				Args: []string{"quarantine", "replay", "--reason=rate_limited"},
				Env:  []string{"NATS_URL=" + server.URL, "BRIDGE_NATS_USER=operator", "BRIDGE_NATS_PASSWORD=" + passwords["operator"]},
			})
			require.Equal(t, c.code, replay.Wait(), replay.Log().Tail(4<<10))
			proof.RequireSays(t, replay.Log(), c.says)
		})
	}
}
