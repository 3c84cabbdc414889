package proof

import (
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/peers"
)

// patience bounds every wait. It decides nothing but how long a failure takes.
const patience = 2 * time.Minute

// faultsVariable set to 1 runs every fault in full: outages of a minute, all brokers of
// the matrix, hundreds of thousands of messages. `make faults` and CI set it.
const faultsVariable = "BRIDGE_FAULTS"

// quick reports whether to run the short form of a test that takes a minute or more.
func quick() bool { return testing.Short() || os.Getenv(faultsVariable) != "1" }

// maxStore is room for the streams that the bridge declares, whatever the disk
// has free: it is only counted.
const maxStore = "jetstream { max_file: 64GiB }\n"

// plainRig is a real mosquitto, real nats-servers and the bridge as processes, on
// plain topics.
type plainRig struct {
	beforeStop func() // at the end of a run, while the bridge still answers; nil: nothing
	t          testing.TB
	broker     *peers.MosquittoProcess // nil: the test's own
	addr       string                  // of the broker
	proxy      *peers.TCPProxy         // between bridge and broker; nil: none
	nats       *peers.NATSProcess      // the only one; nil: a cluster
	cluster    *peers.NATSCluster
	// natsProxies are between the bridge and each nats-server.
	natsProxies []*peers.TCPProxy
	bridge      *peers.BridgeProcess
	js          natsjs.JetStream
	stateDir    string
	marker      string     // topic of the marker
	random      *rand.Rand // of the test's strikes
	said        int        // offset in the bridge's log up to which it has been read
}

// clientID is the session of the only lane.
const clientID = "bridge-0"

// rigOptions describe a plainRig.
type rigOptions struct {
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

// newPlainRig is a rig with one nats-server.
func newPlainRig(t testing.TB, proxied bool) *plainRig {
	t.Helper()
	return newRig(t, rigOptions{MQTTProxy: proxied})
}

// newRig returns once the bridge's session exists: from then on the broker keeps
// what is published.
func newRig(t testing.TB, o rigOptions) *plainRig {
	t.Helper()
	r := &plainRig{t: t, stateDir: o.StateDir, marker: markerTopic}
	if r.stateDir == "" {
		r.stateDir = t.TempDir()
	}
	r.addr = o.Broker
	if r.addr == "" {
		r.broker = peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
		r.addr = r.broker.Addr
	}
	addr := r.addr
	if o.MQTTProxy {
		r.proxy = peers.Proxy(t, addr)
		addr = r.proxy.Addr
	}
	var servers []*peers.NATSProcess
	env, config := o.Env, ""
	if o.Topic != "" {
		env = append([]string{"BRIDGE_MQTT_CLIENT_ID=" + o.Topic}, env...)
		config = "topics:\n  - tenant/{tenant}/device/{device}/" + o.Topic + "\n"
		r.marker = markerDevice + o.Topic
	}
	if o.Cluster {
		r.cluster = peers.Cluster(t, maxStore)
		servers = r.cluster.Nodes
		env = append([]string{"BRIDGE_STREAMS_REPLICAS=3"}, env...)
		// A frozen server does not say goodbye.
		r.js = connectNATS(t, r.cluster.URL(), nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	} else {
		r.nats = peers.NATSServer(t, peers.NATSOptions{Config: maxStore})
		servers = append(servers, r.nats)
		r.js = connectNATS(t, r.nats.URL)
	}
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL
		if o.NATSProxy {
			r.natsProxies = append(r.natsProxies, peers.Proxy(t, s.Addr))
			urls[i] = "nats://" + r.natsProxies[i].Addr
		}
	}
	r.bridge = peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Config: config, Env: append([]string{
		"MQTT_URL=mqtt://" + addr,
		"NATS_URL=" + strings.Join(urls, ","),
		"BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_STATE_DIR=" + r.stateDir,
		"BRIDGE_ADMIN_LISTEN=",
		"BRIDGE_LOG_FORMAT=json", "BRIDGE_LOG_LEVEL=debug",
	}, env...)})
	r.awaitSession()
	if o.Cluster {
		// The session may be there before the streams are.
		r.cluster.AwaitCurrent("TELEMETRY")
	}
	return r
}

// awaitSession waits until the bridge says that it has subscribed.
func (r *plainRig) awaitSession() {
	r.t.Helper()
	r.said = r.bridge.Log().Await(r.t, r.said, "mqtt connected")
}

// startBridge starts it again.
func (r *plainRig) startBridge() {
	r.t.Helper()
	r.said = len(r.bridge.Log().String())
	r.bridge.Start()
}

// redelivered asks the bridge how many messages came with DUP since it started.
// It must have an admin endpoint.
func (r *plainRig) redelivered() int {
	r.t.Helper()
	said := r.bridge.Log().String()
	from := strings.LastIndex(said, `"address":"`)
	require.GreaterOrEqual(r.t, from, 0, said)
	var status struct{ Totals struct{ Redelivered int } }
	require.Equal(r.t, http.StatusOK, ask(r.t, r.bridge, from, "/status", &status))
	return status.Totals.Redelivered
}

func connectNATS(t testing.TB, url string, options ...nats.Option) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.Timeout(patience),
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
	markerSubject = "tenant.proof.device.marker.telemetry"
)

func mark(t testing.TB, addr string) {
	t.Helper()
	markOn(t, addr, markerTopic)
}

func markOn(t testing.TB, addr, topic string) {
	t.Helper()
	conn, err := dialMQTT(addr, strings.ReplaceAll(topic, "/", "-"), "")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(fleet.AppendPublish(nil, topic, 1, []byte("the end")))
	require.NoError(t, err)
	puback(t, conn, 1)
}

func puback(t testing.TB, conn net.Conn, id uint16) {
	t.Helper()
	var p [4]byte
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := conn.Read(p[:])
	require.NoError(t, err)
	require.Equal(t, [4]byte{0x40, 2, byte(id >> 8), byte(id)}, p)
}

// awaitMarker waits until the marker is stored: as long as the stream grows
// during that time, however long that takes.
func awaitMarker(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	awaitMarkerOn(t, js, markerSubject)
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
		if time.Since(progress) > patience {
			require.FailNow(t, "the end of the load never came", "the stream stands at %d: %v", last, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
}

// finish ends a run: all is published, the marker is stored, the bridge has
// stopped by itself and left nothing behind. It returns what became of the load.
func (r *plainRig) finish(l *load) verdict {
	r.t.Helper()
	l.awaitEnd(r.t)
	markOn(r.t, r.addr, r.marker)
	awaitMarkerOn(r.t, r.js, strings.ReplaceAll(r.marker, "/", "."))
	if r.beforeStop != nil {
		r.beforeStop()
	}
	require.Zero(r.t, r.bridge.Stop(), "exit code")
	if r.cluster != nil {
		r.cluster.AwaitCurrent("TELEMETRY")
	}
	all := readLoad(r.t, r.js, "TELEMETRY")
	v := l.judge(all)
	if !v.Clean() && !l.Identical {
		r.t.Logf("%v\n%s", v, l.explain(all))
	}
	quarantine, err := r.js.Stream(r.t.Context(), "QUARANTINE")
	require.NoError(r.t, err)
	v.Quarantined = int(quarantine.CachedInfo().State.Msgs)
	return v
}
