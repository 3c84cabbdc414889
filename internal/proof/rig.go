package proof

import (
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// Rig runs a real mosquitto, real nats-servers and the bridge as processes, on plain topics.
type Rig struct {
	BeforeStop func() // called at the end of a run, while the bridge still runs; nil: nothing
	T          testing.TB
	Broker     *peers.MosquittoProcess // nil: the test provides the broker
	Addr       string                  // of the broker
	Proxy      *peers.TCPProxy         // between bridge and broker; nil: none
	NATS       *peers.NATSProcess      // the only one; nil: a cluster
	Cluster    *peers.NATSCluster
	// NATSProxies contains the proxies between the bridge and each nats-server.
	NATSProxies []*peers.TCPProxy
	Bridge      *peers.Process
	JS          natsjs.JetStream
	stateDir    string
	Marker      string     // topic of the marker
	Random      *rand.Rand // for the test's faults
	LogOffset   int        // offset in the bridge's log up to which it has been read
}

// ClientID is the client id of the only lane.
const ClientID = "bridge-0"

// RigOptions configures a Rig.
type RigOptions struct {
	// MQTTProxy and NATSProxy add proxies that can inject link faults.
	MQTTProxy, NATSProxy bool
	// Cluster starts three nats-servers, with three replicas of each stream.
	Cluster bool
	// StateDir is the state directory of the bridge; empty: a temporary directory.
	StateDir string
	// Broker is the host:port of an MQTT broker that replaces mosquitto.
	Broker string
	// Topic is the client id of a bridge that shares its broker with others, and the last level of
	// its only topic. Empty: the default topics.
	Topic string
	// Env contains additional environment variables of the bridge, KEY=value.
	Env []string
}

// NewRig returns when the session of the bridge exists: from then on the broker keeps published
// messages.
func NewRig(t testing.TB, o RigOptions) *Rig {
	t.Helper()
	r := &Rig{T: t, stateDir: o.StateDir, Marker: markerTopic}
	if r.stateDir == "" {
		r.stateDir = t.TempDir()
	}
	r.Addr = o.Broker
	if r.Addr == "" {
		r.Broker = peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
		r.Addr = r.Broker.Addr
	}
	addr := r.Addr
	if o.MQTTProxy {
		r.Proxy = peers.Proxy(t, addr)
		addr = r.Proxy.Addr
	}
	var servers []*peers.NATSProcess
	env, config := o.Env, ""
	if o.Topic != "" {
		env = append([]string{"BRIDGE_MQTT_CLIENT_ID=" + o.Topic}, env...)
		config = "topics:\n  - tenant/{tenant}/device/{device}/" + o.Topic + "\n"
		r.Marker = markerDevice + o.Topic
	}
	if o.Cluster {
		r.Cluster = peers.Cluster(t)
		servers = r.Cluster.Nodes
		env = append([]string{"BRIDGE_STREAMS_REPLICAS=3"}, env...)
		// A suspended server does not close its connections.
		r.JS = ConnectNATS(t, r.Cluster.URL(), nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	} else {
		r.NATS = peers.NATSServer(t, peers.NATSOptions{})
		servers = append(servers, r.NATS)
		r.JS = ConnectNATS(t, r.NATS.URL)
	}
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL
		if o.NATSProxy {
			r.NATSProxies = append(r.NATSProxies, peers.Proxy(t, s.Addr))
			urls[i] = "nats://" + r.NATSProxies[i].Addr
		}
	}
	r.Bridge = peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Config: config, Env: append([]string{
		"MQTT_URL=mqtt://" + addr,
		"NATS_URL=" + strings.Join(urls, ","),
		"BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_STATE_DIR=" + r.stateDir,
		"BRIDGE_ADMIN_LISTEN=",
		"BRIDGE_LOG_FORMAT=json", "BRIDGE_LOG_LEVEL=debug",
	}, env...)})
	r.AwaitSession()
	if o.Cluster {
		// The session may exist before the streams.
		r.Cluster.AwaitCurrent("TELEMETRY")
	}
	return r
}

// logTail is the size of the end of a log that a failure prints, in bytes.
const logTail = 4 << 10

// RequireSays fails the test with the end of the log if the log does not contain the text.
func RequireSays(t testing.TB, log *peers.Log, text string) {
	t.Helper()
	if !strings.Contains(log.String(), text) {
		require.FailNow(t, "the log does not contain the text", "%s\n%s", text, log.Tail(logTail))
	}
}

// RequireNeverSays fails the test with the line if the log contains the text.
func RequireNeverSays(t testing.TB, log *peers.Log, text string) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		require.NotContains(t, line, text)
	}
}

// AwaitSession waits until the bridge logs that its session is connected.
func (r *Rig) AwaitSession() {
	r.T.Helper()
	r.LogOffset = r.Bridge.Log().Await(r.T, r.LogOffset, "mqtt connected")
}

// StartBridge starts the bridge again.
func (r *Rig) StartBridge() {
	r.T.Helper()
	r.LogOffset = len(r.Bridge.Log().String())
	r.Bridge.Start()
}

// Redelivered returns the number of messages with DUP that the bridge has received since its start.
// The bridge needs an admin endpoint.
func (r *Rig) Redelivered() int {
	r.T.Helper()
	said := r.Bridge.Log().String()
	from := strings.LastIndex(said, `"address":"`)
	require.GreaterOrEqual(r.T, from, 0, r.Bridge.Log().Tail(logTail))
	var status struct{ Totals struct{ Redelivered int } }
	require.Equal(r.T, http.StatusOK, GetPage(r.T, r.Bridge, from, "/status", &status))
	return status.Totals.Redelivered
}

// ConnectNATS connects to a server that may be down temporarily. The connection is closed at the
// end of the test.
func ConnectNATS(t testing.TB, url string, options ...nats.Option) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.Timeout(testrun.Timeout),
	}, options...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

// The marker is published after the last message of a load, to the same broker. A lane stores
// messages in the order of delivery: when the marker is in the stream, all earlier messages are
// too.
const (
	markerDevice  = "tenant/proof/device/marker/"
	markerTopic   = markerDevice + "telemetry"
	MarkerSubject = "tenant.proof.device.marker.telemetry"
)

// Mark publishes the marker.
func Mark(t testing.TB, addr string) {
	t.Helper()
	MarkOn(t, addr, markerTopic)
}

// MarkOn publishes the marker on a topic.
func MarkOn(t testing.TB, addr, topic string) {
	t.Helper()
	conn, err := DialMQTT(addr, strings.ReplaceAll(topic, "/", "-"), "")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(wire.AppendPublish(nil, wire.QoS1, topic, 1, []byte("the end")))
	require.NoError(t, err)
	ReadPuback(t, conn, 1)
}

// ReadPuback reads one packet and requires that it is the PUBACK of the packet id.
func ReadPuback(t testing.TB, conn net.Conn, id uint16) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(testrun.Timeout)))
	got, err := wire.ReadPuback(conn)
	require.NoError(t, err)
	require.Equal(t, id, got)
}

// AwaitMarker waits until the marker is stored. It does not time out as long as the stream grows.
func AwaitMarker(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	awaitMarkerOn(t, js, MarkerSubject)
}

func awaitMarkerOn(t testing.TB, js natsjs.JetStream, subject string) {
	t.Helper()
	var last uint64
	progress := time.Now()
	for {
		// A replicated stream may have no leader at the moment.
		s, err := js.Stream(t.Context(), "TELEMETRY")
		if err == nil {
			if _, err = s.GetLastMsgForSubject(t.Context(), subject); err == nil {
				return
			}
			if seq := s.CachedInfo().State.LastSeq; seq != last {
				last, progress = seq, time.Now()
			}
		}
		if time.Since(progress) > testrun.Timeout {
			require.FailNow(t, "the marker was not stored", "the stream is at %d: %v", last, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
}

// Finish ends a run and returns the verdict. It waits until all messages are published and the
// marker is stored, then stops the bridge, which must exit with code 0.
func (r *Rig) Finish(l *Load) Verdict {
	r.T.Helper()
	l.AwaitEnd(r.T)
	MarkOn(r.T, r.Addr, r.Marker)
	awaitMarkerOn(r.T, r.JS, strings.ReplaceAll(r.Marker, "/", "."))
	if r.BeforeStop != nil {
		r.BeforeStop()
	}
	require.Zero(r.T, r.Bridge.Stop(), "exit code")
	if r.Cluster != nil {
		r.Cluster.AwaitCurrent("TELEMETRY")
	}
	all := ReadLoad(r.T, r.JS, "TELEMETRY")
	v := l.Reconcile(all)
	if !v.Clean() && !l.Identical {
		r.T.Logf("%v\n%s", v, l.Explain(all))
	}
	quarantine, err := r.JS.Stream(r.T.Context(), "QUARANTINE")
	require.NoError(r.T, err)
	v.Quarantined = int(quarantine.CachedInfo().State.Msgs)
	return v
}

// GetPage requests a page of the bridge's admin endpoint. It finds the address in the log, after
// byte from.
func GetPage(t testing.TB, bridge *peers.Process, from int, path string, into any) int {
	t.Helper()
	const listening = `"address":"`
	end := bridge.Log().Await(t, from, listening)
	addr, _, _ := strings.Cut(bridge.Log().String()[end:], `"`)
	answer, err := http.Get("http://" + addr + path)
	require.NoError(t, err)
	defer answer.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	require.NoError(t, json.NewDecoder(answer.Body).Decode(into))
	return answer.StatusCode
}

// Shorter returns d in a full run, and a tenth of it otherwise.
func Shorter(d time.Duration) time.Duration {
	if testrun.Quick() {
		return d / 10
	}
	return d
}

// LimitStream limits the stream to its present messages and more further ones; the stream then
// refuses new messages. If more is negative, it removes the limit. It returns the maximum number of
// messages.
func (r *Rig) LimitStream(more int64) (most int64) {
	r.T.Helper()
	Eventually(r.T, func() bool {
		s, err := r.JS.Stream(r.T.Context(), "TELEMETRY")
		if err != nil {
			return false // no leader at the moment
		}
		c := s.CachedInfo().Config
		if most = -1; more >= 0 {
			most = int64(s.CachedInfo().State.Msgs) + more
		}
		c.Discard, c.MaxMsgs = natsjs.DiscardNew, most
		_, err = r.JS.UpdateStream(r.T.Context(), c)
		return err == nil
	}, func() any { return "the stream cannot be changed" })
	return most
}

// Journal returns the path of the only lane's journal.
func (r *Rig) Journal() string { return filepath.Join(r.stateDir, ClientID+".journal") }

// BothProxied has both proxies and a short keep-alive, so that a silently lost connection is
// detected within seconds.
var BothProxied = RigOptions{MQTTProxy: true, NATSProxy: true, Env: []string{"BRIDGE_MQTT_KEEPALIVE=2s"}}
