package proof

import (
	"fmt"
	"net"
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

// nobody is a host:port on which nothing listens yet.
func nobody(t testing.TB) (addr string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String(), l.Addr().(*net.TCPAddr).Port
}

func startBroker(t testing.TB, o broker.Options) (b *broker.Broker, addr string) {
	t.Helper()
	b, err := broker.Start(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b, strings.TrimPrefix(b.URL(), "tcp://")
}

// awaitSubscribed waits until the only lane collects messages.
func awaitSubscribed(t testing.TB, b *daemon.Bridge) {
	t.Helper()
	eventually(t, func() bool { return b.Status(t.Context()).Lanes[0].Session.Subscribed }, func() any { return b.Problems() })
}

func TestWhatIsPublishedBeforeNATSIsThereArrives(t *testing.T) {
	t.Parallel()
	b, addr := startBroker(t, broker.Options{})
	natsAddr, port := nobody(t)
	bridge := startInProcess(t, plain("mqtt://"+addr, "nats://"+natsAddr))
	p := awaitProblem(t, bridge, "nats", natsAddr, "cannot be reached")
	require.NotContains(t, p.Problem, "credentials")
	awaitSubscribed(t, bridge)
	// Fewer than the packet ids: the embedded broker has no queue behind them.
	l := startLoad(t, loadOptions{Addr: addr, Devices: 50, Total: 20_000})
	l.awaitEnd(t)
	mark(t, addr)
	server := startJetStream(t, embedded.Options{Port: port})
	js := connectNATS(t, server.URL())
	awaitReady(t, bridge)
	awaitMessage(t, js, "TELEMETRY", markerSubject)
	v := l.judge(readLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
	require.Zero(t, b.Dropped())
}

func TestABrokerThatComesLaterIsConnectedTo(t *testing.T) {
	t.Parallel()
	server := startJetStream(t, embedded.Options{})
	js := connectNATS(t, server.URL())
	addr, _ := nobody(t)
	bridge := startInProcess(t, plain("mqtt://"+addr, server.URL()))
	awaitProblem(t, bridge, "mqtt", addr, "cannot be reached")
	_, addr = startBroker(t, broker.Options{Listen: addr})
	awaitReady(t, bridge)
	l := startLoad(t, loadOptions{Addr: addr, Devices: 50, Total: 5_000})
	l.awaitEnd(t)
	mark(t, addr)
	awaitMessage(t, js, "TELEMETRY", markerSubject)
	v := l.judge(readLoad(t, js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
}

func TestAWrongPasswordIsToldFromAnUnreachableServer(t *testing.T) {
	t.Parallel()
	const username, password = "bridge", "right-0c1"
	server := startJetStream(t, embedded.Options{Configure: func(o *natsd.Options) {
		o.Username, o.Password = username, password
	}})
	_, addr := startBroker(t, broker.Options{Username: username, Password: password})
	natsAddr, _ := nobody(t)
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
			b := startInProcess(t, plain("mqtt://"+addr, c.natsURL).
				with("nats.user", username).with("nats.password", c.natsPassword).
				with("mqtt.client_id", strings.ReplaceAll(name, " ", "-")).
				with("mqtt.username", username).with("mqtt.password", c.mqttPassword))
			p := awaitProblem(t, b, c.component, c.says)
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
	server := startJetStream(t, embedded.Options{})
	js := connectNATS(t, server.URL())
	b, addr := startBroker(t, broker.Options{})
	s := plain("mqtt://"+addr, server.URL())
	bridge := startInProcess(t, s)
	awaitReady(t, bridge)
	l := startLoad(t, loadOptions{Addr: addr, Devices: 50, Total: 30_000, Rate: 10_000})
	l.release(l.Total)
	require.True(t, l.await(l.Total/5))
	require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
	p := awaitProblem(t, bridge, "jetstream", publish.ErrNoResponders.Error())
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

	l.awaitEnd(t)
	mark(t, addr)
	awaitMessage(t, js, "TELEMETRY", markerSubject)
	all := readLoad(t, js, "TELEMETRY")
	require.Len(t, all, l.Total-confirmed)
	for i, m := range all {
		require.EqualValues(t, confirmed+i, m.message, "message "+strconv.Itoa(i)+" of the new stream")
	}
	v := l.judge(all)
	require.Equal(t, confirmed, v.Lost, "what the deleted stream held")
	v.Lost = 0
	outcome.add("stream deleted and made anew", fmt.Sprintf("10,000 per second, %d went with it", confirmed), v)
	awaitReady(t, bridge)
	require.Zero(t, b.Dropped())
}

func TestASecondBridgeWithTheSameClientIDIsNamed(t *testing.T) {
	t.Parallel()
	server := startJetStream(t, embedded.Options{})
	_, addr := startBroker(t, broker.Options{})
	first := startInProcess(t, plain("mqtt://"+addr, server.URL()))
	awaitReady(t, first)
	second := startInProcess(t, plain("mqtt://"+addr, server.URL()))
	for _, b := range []*daemon.Bridge{first, second} {
		p := awaitProblem(t, b, "mqtt", "another client", "client id", "mqtt.client_id")
		require.Equal(t, []string{clientID}, p.Lanes)
	}
}
