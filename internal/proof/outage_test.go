package proof

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestWhatIsPublishedBeforeNATSIsThereArrives(t *testing.T) {
	t.Parallel()
	b, addr := StartBroker(t, broker.Options{})
	natsAddr, port := ClosedPort(t)
	bridge := StartInProcess(t, PlainSettings("mqtt://"+addr, "nats://"+natsAddr))
	p := AwaitProblem(t, bridge, "nats", natsAddr, "cannot be reached")
	require.NotContains(t, p.Problem, "credentials")
	AwaitSubscribed(t, bridge)
	// Fewer than the packet ids: the embedded broker has no queue behind them.
	l := StartLoad(t, LoadOptions{Addr: addr, Devices: 50, Total: 20_000})
	l.AwaitEnd(t)
	Mark(t, addr)
	server := StartJetStream(t, embedded.Options{Port: port})
	js := ConnectNATS(t, server.URL())
	AwaitReady(t, bridge)
	AwaitMessage(t, js, "TELEMETRY", MarkerSubject)
	v := l.Reconcile(ReadLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
	require.Zero(t, b.Dropped())
}

func TestABrokerThatComesLaterIsConnectedTo(t *testing.T) {
	t.Parallel()
	server := StartJetStream(t, embedded.Options{})
	js := ConnectNATS(t, server.URL())
	addr, _ := ClosedPort(t)
	bridge := StartInProcess(t, PlainSettings("mqtt://"+addr, server.URL()))
	AwaitProblem(t, bridge, "mqtt", addr, "cannot be reached")
	_, addr = StartBroker(t, broker.Options{Listen: addr})
	AwaitReady(t, bridge)
	l := StartLoad(t, LoadOptions{Addr: addr, Devices: 50, Total: 5_000})
	l.AwaitEnd(t)
	Mark(t, addr)
	AwaitMessage(t, js, "TELEMETRY", MarkerSubject)
	v := l.Reconcile(ReadLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
}

func TestAWrongPasswordIsToldFromAnUnreachableServer(t *testing.T) {
	t.Parallel()
	const username, password = "bridge", "right-0c1"
	server := StartJetStream(t, embedded.Options{Configure: func(o *natsd.Options) {
		o.Username, o.Password = username, password
	}})
	_, addr := StartBroker(t, broker.Options{Username: username, Password: password})
	natsAddr, _ := ClosedPort(t)
	for name, c := range map[string]struct {
		natsURL, natsPassword, mqttPassword string
		component                           string
		says, saysNot                       string
	}{
		"NATS password":   {server.URL(), "wrong", password, "nats", "refuses the credentials", "reached"},
		"no NATS":         {"nats://" + natsAddr, password, password, "nats", "cannot be reached", "refuses"},
		"broker password": {server.URL(), password, "wrong", "mqtt", "refuses the credentials", "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := StartInProcess(t, PlainSettings("mqtt://"+addr, c.natsURL).
				With("nats.user", username).With("nats.password", c.natsPassword).
				With("mqtt.client_id", strings.ReplaceAll(name, " ", "-")).
				With("mqtt.username", username).With("mqtt.password", c.mqttPassword))
			p := AwaitProblem(t, b, c.component, c.says)
			require.NotContains(t, p.Problem, c.saysNot)
			require.NotContains(t, p.Problem, "wrong", "no password in a problem")
		})
	}
}

// A stream that is deleted takes along what it held. What JetStream had not
// confirmed to the bridge until then, and all that comes later, is in the stream
// that is made anew: exactly the messages from the first unconfirmed one on, once
// and in order.
func TestADeletedStreamLosesOnlyWhatItHeld(t *testing.T) {
	t.Parallel()
	server := StartJetStream(t, embedded.Options{})
	js := ConnectNATS(t, server.URL())
	b, addr := StartBroker(t, broker.Options{})
	s := PlainSettings("mqtt://"+addr, server.URL())
	bridge := StartInProcess(t, s)
	AwaitReady(t, bridge)
	l := StartLoad(t, LoadOptions{Addr: addr, Devices: 50, Total: 30_000, Rate: 10_000})
	l.Release(l.Total)
	require.True(t, l.Await(l.Total/5))
	require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
	p := AwaitProblem(t, bridge, "jetstream", publish.ErrNoResponders.Error())
	require.NotEmpty(t, p.Advice)
	confirmed := int(bridge.Totals().Stored)
	require.Greater(t, l.Total, confirmed, "under load")
	require.Positive(t, confirmed)

	var flags []config.Flag
	for path, value := range s {
		flags = append(flags, config.Flag{Path: path, Value: value})
	}
	c, err := config.Load(config.Sources{Flags: flags})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	_, err = streams.Manage(t.Context(), js, streams.ManageCreate, plan.Streams, plan.Consumers)
	require.NoError(t, err)

	l.AwaitEnd(t)
	Mark(t, addr)
	AwaitMessage(t, js, "TELEMETRY", MarkerSubject)
	all := ReadLoad(t, js, "TELEMETRY")
	require.Len(t, all, l.Total-confirmed)
	for i, m := range all {
		require.EqualValues(t, confirmed+i, m.Message, "message "+strconv.Itoa(i)+" of the new stream")
	}
	v := l.Reconcile(all)
	require.Equal(t, confirmed, v.Lost, "what the deleted stream held")
	v.Lost = 0
	Report("stream deleted and made anew", fmt.Sprintf("10,000 per second, %d went with it", confirmed), v)
	AwaitReady(t, bridge)
	require.Zero(t, b.Dropped())
}

func TestASecondBridgeWithTheSameClientIDIsNamed(t *testing.T) {
	t.Parallel()
	server := StartJetStream(t, embedded.Options{})
	_, addr := StartBroker(t, broker.Options{})
	first := StartInProcess(t, PlainSettings("mqtt://"+addr, server.URL()))
	AwaitReady(t, first)
	second := StartInProcess(t, PlainSettings("mqtt://"+addr, server.URL()))
	for _, b := range []*daemon.Bridge{first, second} {
		p := AwaitProblem(t, b, "mqtt", "another client", "client id", "mqtt.client_id")
		require.Equal(t, []string{ClientID}, p.Lanes)
	}
}
