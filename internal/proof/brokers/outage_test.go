package brokers

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
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestStartOrder(t *testing.T) {
	t.Parallel()
	t.Run("messages from before NATS start are stored", testMessagesFromBeforeNATSStartAreStored)
	t.Run("broker that starts later is connected to", testBrokerThatStartsLaterIsConnectedTo)
}

func testMessagesFromBeforeNATSStartAreStored(t *testing.T) {
	t.Parallel()
	b, addr := proof.StartBroker(t, broker.Options{})
	natsAddr := testrun.Address(t)
	bridge := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, "nats://"+natsAddr.String()))
	p := proof.AwaitProblem(t, bridge, "nats", natsAddr.String(), "cannot be reached")
	require.NotContains(t, p.Problem, "credentials")
	proof.AwaitSubscribed(t, bridge)
	// Fewer messages than packet ids: the embedded broker does not queue any further ones.
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 50, Total: 20_000})
	l.AwaitEnd(t)
	proof.Mark(t, addr)
	server := proof.StartJetStream(t, embedded.Options{Port: natsAddr.Port})
	js := proof.ConnectNATS(t, server.URL())
	proof.AwaitReady(t, bridge)
	proof.AwaitMessage(t, js, "TELEMETRY", proof.MarkerSubject)
	v := l.Reconcile(proof.ReadLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
	require.Zero(t, b.Dropped())
}

func testBrokerThatStartsLaterIsConnectedTo(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	addr := testrun.Address(t).String()
	bridge := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, server.URL()))
	proof.AwaitProblem(t, bridge, "mqtt", addr, "cannot be reached")
	proof.StartBroker(t, broker.Options{Listen: addr})
	proof.AwaitReady(t, bridge)
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 50, Total: 5_000})
	l.AwaitEnd(t)
	proof.Mark(t, addr)
	proof.AwaitMessage(t, js, "TELEMETRY", proof.MarkerSubject)
	v := l.Reconcile(proof.ReadLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
}

func TestConnectProblem(t *testing.T) {
	t.Parallel()
	const username, password = "bridge", "right-0c1"
	server := proof.StartJetStream(t, embedded.Options{Configure: func(o *natsd.Options) {
		o.Username, o.Password = username, password
	}})
	_, addr := proof.StartBroker(t, broker.Options{Username: username, Password: password})
	for name, c := range map[string]struct {
		natsURL, natsPassword, mqttPassword string
		component                           string
		says, saysNot                       string
	}{
		"NATS password":   {server.URL(), "wrong", password, "nats", "refuses the credentials", "reached"},
		"no NATS":         {"nats://" + testrun.Address(t).String(), password, password, "nats", "cannot be reached", "refuses"},
		"broker password": {server.URL(), password, "wrong", "mqtt", "refuses the credentials", "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, c.natsURL).
				With("nats.user", username).With("nats.password", c.natsPassword).
				With("mqtt.client_id", strings.ReplaceAll(name, " ", "-")).
				With("mqtt.username", username).With("mqtt.password", c.mqttPassword))
			p := proof.AwaitProblem(t, b, c.component, c.says)
			require.NotContains(t, p.Problem, c.saysNot)
			require.NotContains(t, p.Problem, "wrong", "no password in a problem")
		})
	}
}

// Deleting a stream deletes its messages. The recreated stream contains every message from the
// first unconfirmed one on, exactly once and in order.
func TestDeletedStream(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	js := proof.ConnectNATS(t, server.URL())
	b, addr := proof.StartBroker(t, broker.Options{})
	s := proof.PlainSettings("mqtt://"+addr, server.URL())
	bridge := proof.StartInProcess(t, s)
	proof.AwaitReady(t, bridge)
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 50, Total: 30_000, Rate: 10_000})
	l.Release(l.Total)
	require.True(t, l.Await(l.Total/5))
	require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
	p := proof.AwaitProblem(t, bridge, "jetstream", publish.ErrNoResponders.Error())
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
	proof.Mark(t, addr)
	proof.AwaitMessage(t, js, "TELEMETRY", proof.MarkerSubject)
	all := proof.ReadLoad(t, js, "TELEMETRY")
	require.Equal(t, l.Total-confirmed, len(all))
	for i, m := range all {
		require.EqualValues(t, confirmed+i, m.Message, "message "+strconv.Itoa(i)+" of the new stream")
	}
	v := l.Reconcile(all)
	require.Equal(t, confirmed, v.Lost, "what the deleted stream held")
	v.Lost = 0
	proof.Report("stream deleted and recreated", fmt.Sprintf("10,000 per second, %d deleted with it", confirmed), v)
	proof.AwaitReady(t, bridge)
	require.Zero(t, b.Dropped())
}

func TestDuplicateClientID(t *testing.T) {
	t.Parallel()
	server := proof.StartJetStream(t, embedded.Options{})
	_, addr := proof.StartBroker(t, broker.Options{})
	first := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, server.URL()))
	proof.AwaitReady(t, first)
	second := proof.StartInProcess(t, proof.PlainSettings("mqtt://"+addr, server.URL()))
	for _, b := range []*daemon.Bridge{first, second} {
		p := proof.AwaitProblem(t, b, "mqtt", "another client", "client id", "mqtt.client_id")
		require.Equal(t, []string{proof.ClientID}, p.Lanes)
	}
}
