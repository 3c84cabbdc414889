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

// Rig is a real mosquitto, real nats-servers and the bridge as processes, on
// plain topics.
type Rig struct {
	BeforeStop func() // at the end of a run, while the bridge still answers; nil: nothing
	T          testing.TB
	Broker     *peers.MosquittoProcess // nil: the test's own
	Addr       string                  // of the broker
	Proxy      *peers.TCPProxy         // between bridge and broker; nil: none
	NATS       *peers.NATSProcess      // the only one; nil: a cluster
	Cluster    *peers.NATSCluster
	// NATSProxies are between the bridge and each nats-server.
	NATSProxies []*peers.TCPProxy
	Bridge      *peers.BridgeProcess
	JS          natsjs.JetStream
	stateDir    string
	Marker      string     // topic of the marker
	Random      *rand.Rand // of the test's faults
	LogOffset   int        // offset in the bridge's log up to which it has been read
}

// ClientID is the session of the only lane.
const ClientID = "bridge-0"

// RigOptions describe a Rig.
type RigOptions struct {
	// MQTTProxy and NATSProxy are for faults of the links.
	MQTTProxy, NATSProxy bool
	// Cluster has three nats-servers and three replicas of each stream.
	Cluster bool
	// StateDir of the bridge; empty: a directory of the test's own.
	StateDir string
	// Broker is the host:port of an MQTT broker that takes mosquitto's place.
	Broker string
	// Topic is the last level of the only topic of a bridge that shares its broker with
	// others, and its client id; empty: the default topics.
	Topic string
	// Env are further variables of the bridge, KEY=value.
	Env []string
}

// NewRig returns once the bridge's session exists: from then on the broker keeps
// what is published.
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
		// A frozen server does not say goodbye.
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
		// The session may be there before the streams are.
		r.Cluster.AwaitCurrent("TELEMETRY")
	}
	return r
}

// logTail is how much of a log a failure prints, in bytes.
const logTail = 4 << 10

// Log is what a process has written.
type Log interface {
	String() string
	Tail(n int) string
}

// RequireSays fails with the end of the log where the text is not in it.
func RequireSays(t testing.TB, log Log, text string) {
	t.Helper()
	if !strings.Contains(log.String(), text) {
		require.FailNow(t, "the log does not say it", "%s\n%s", text, log.Tail(logTail))
	}
}

// RequireNeverSays fails with the line where the text is in the log.
func RequireNeverSays(t testing.TB, log Log, text string) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		require.NotContains(t, line, text)
	}
}

// AwaitSession waits until the bridge says that it has subscribed.
func (r *Rig) AwaitSession() {
	r.T.Helper()
	r.LogOffset = r.Bridge.Log().Await(r.T, r.LogOffset, "mqtt connected")
}

// StartBridge starts it again.
func (r *Rig) StartBridge() {
	r.T.Helper()
	r.LogOffset = len(r.Bridge.Log().String())
	r.Bridge.Start()
}

// Redelivered asks the bridge how many messages came with DUP since it started.
// It must have an admin endpoint.
func (r *Rig) Redelivered() int {
	r.T.Helper()
	said := r.Bridge.Log().String()
	from := strings.LastIndex(said, `"address":"`)
	require.GreaterOrEqual(r.T, from, 0, r.Bridge.Log().Tail(logTail))
	var status struct{ Totals struct{ Redelivered int } }
	require.Equal(r.T, http.StatusOK, GetPage(r.T, r.Bridge, from, "/status", &status))
	return status.Totals.Redelivered
}

// ConnectNATS connects to a server that may be down at times; the connection ends with the test.
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

// The marker is published after the last message of a load, over the same
// connection's broker. A lane stores in the order in which the broker delivers:
// once the marker is in the stream, whatever came before it is too.
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

// ReadPuback reads the PUBACK of a packet id, and nothing else.
func ReadPuback(t testing.TB, conn net.Conn, id uint16) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(testrun.Timeout)))
	got, err := wire.ReadPuback(conn)
	require.NoError(t, err)
	require.Equal(t, id, got)
}

// AwaitMarker waits until the marker is stored: as long as the stream grows
// during that time, however long that takes.
func AwaitMarker(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	awaitMarkerOn(t, js, MarkerSubject)
}

func awaitMarkerOn(t testing.TB, js natsjs.JetStream, subject string) {
	t.Helper()
	var last uint64
	progress := time.Now()
	for {
		// A replicated stream may be between two leaders.
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
			require.FailNow(t, "the end of the load never came", "the stream is at %d: %v", last, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
}

// Finish ends a run: all is published, the marker is stored, the bridge has
// stopped by itself and left nothing behind. It returns what became of the load.
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

// GetPage gets a page of the bridge whose log says its address after byte from.
func GetPage(t testing.TB, bridge *peers.BridgeProcess, from int, path string, into any) int {
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

// Shorter returns d, or a tenth of it in a short run.
func Shorter(d time.Duration) time.Duration {
	if testrun.Quick() {
		return d / 10
	}
	return d
}

// LimitStream lets the stream grow by so many messages and then discard new ones;
// negative: without end. It returns how many it can contain.
func (r *Rig) LimitStream(more int64) (most int64) {
	r.T.Helper()
	Eventually(r.T, func() bool {
		s, err := r.JS.Stream(r.T.Context(), "TELEMETRY")
		if err != nil {
			return false // between two leaders
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

// Journal returns the file of the only lane.
func (r *Rig) Journal() string { return filepath.Join(r.stateDir, ClientID+".journal") }

// BothProxied has short keep-alives, so that a silent end shows in seconds.
var BothProxied = RigOptions{MQTTProxy: true, NATSProxy: true, Env: []string{"BRIDGE_MQTT_KEEPALIVE=2s"}}
