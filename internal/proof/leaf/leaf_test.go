package leaf

import (
	"net/http"
	"os"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/leafnode"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// leafHub configures a hub with a leaf node listener.
const leafHub = "server_name: hub\nleafnodes { port: 7422 }\n"

// leafRig runs a real mosquitto, the bridge as a leaf node, and its hub as processes. A proxy
// is on the link to the hub.
type leafRig struct {
	t      testing.TB
	broker *peers.MosquittoProcess
	hub    *peers.NATSProcess
	link   *peers.TCPProxy
	bridge *peers.Process
	js     natsjs.JetStream // the hub's
	said   int
}

// newLeafRig returns once the bridge's session exists and the link is up.
func newLeafRig(t testing.TB, env ...string) *leafRig {
	t.Helper()
	r := &leafRig{t: t}
	r.broker = peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
	r.hub = peers.NATSServer(t, peers.NATSOptions{Config: leafHub})
	r.link = peers.Proxy(t, r.hub.LeafAddr)
	r.js = proof.ConnectNATS(t, r.hub.URL)
	r.bridge = peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Env: append([]string{
		"MQTT_URL=mqtt://" + r.broker.Addr,
		"NATS_URL=" + r.hub.URL,
		"BRIDGE_NATS_MODE=leaf",
		"BRIDGE_NATS_LEAF_URL=nats-leaf://" + r.link.Addr,
		"BRIDGE_NATS_LEAF_DOMAIN=site-a",
		"BRIDGE_NATS_LEAF_STORE_DIR=" + t.TempDir(),
		"BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_STATE_DIR=" + t.TempDir(),
		"BRIDGE_ADMIN_LISTEN=127.0.0.1:0",
		"BRIDGE_LOG_FORMAT=json",
	}, env...)})
	r.awaitSession()
	r.bridge.Log().Await(t, 0, "leaf node linked to the hub")
	return r
}

func (r *leafRig) awaitSession() {
	r.t.Helper()
	r.bridge.Log().Await(r.t, r.said, "mqtt connected")
}

// startBridge restarts the bridge.
func (r *leafRig) startBridge() {
	r.t.Helper()
	r.said = len(r.bridge.Log().String())
	r.bridge.Start()
	r.awaitSession()
}

// get reads a page of the admin endpoint; its address comes from the log.
func (r *leafRig) get(path string, into any) int {
	r.t.Helper()
	return proof.GetPage(r.t, r.bridge, r.said, path, into)
}

func (r *leafRig) leaf() *leafnode.Status {
	r.t.Helper()
	var s daemon.Status
	r.get("/status", &s)
	require.NotNil(r.t, s.Leaf)
	return s.Leaf
}

// awaitDrained waits until the hub has confirmed all messages and returns the observed
// backlogs. The timeout restarts whenever the backlog falls.
func (r *leafRig) awaitDrained() (seen []uint64, perSecond float64) {
	r.t.Helper()
	var most uint64
	var since time.Time // when the highest backlog was last seen
	progress := time.Now()
	for {
		s := r.leaf()
		if n := len(seen); n == 0 || seen[n-1] != s.Messages {
			seen = append(seen, s.Messages)
			progress = time.Now()
		}
		if s.Messages >= most {
			most, since = s.Messages, time.Now()
		}
		if s.Messages == 0 && s.HubProblem == "" {
			return seen, float64(most) / time.Since(since).Seconds()
		}
		require.Less(r.t, time.Since(progress), asksAgain, "the backlog does not fall: %+v", s)
		time.Sleep(100 * time.Millisecond)
	}
}

// In a power failure, a hub loses messages that are not yet on its disk. The bridge keeps
// messages stored at the hub for nats.leaf.keep, not counting the time that the hub is
// unreachable. The hub then sources them again.
func TestHubRollback(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes a minute to source again")
	r := newLeafRig(t, "BRIDGE_NATS_LEAF_KEEP=15s")
	l := proof.StartLoad(t, proof.LoadOptions{Addr: r.broker.Addr, Devices: 50, Total: 4000})
	l.Release(2000)
	require.True(t, l.Await(2000))
	r.awaitStored(2000)
	require.Zero(t, r.hub.Stop())
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(r.hub.StoreDir)))
	r.hub.Start()
	l.AwaitEnd(t)
	r.awaitDrained()
	r.hub.Kill9()
	require.NoError(t, os.RemoveAll(r.hub.StoreDir))
	require.NoError(t, os.CopyFS(r.hub.StoreDir, os.DirFS(old)))
	// The outage is longer than nats.leaf.keep (15 s) plus the next removal.
	time.Sleep(35 * time.Second)
	r.hub.Start()
	s, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.Less(t, s.CachedInfo().State.Msgs, uint64(4000), "set back")
	r.awaitStored(4000)
	v := l.Reconcile(proof.ReadLoad(t, r.js, "TELEMETRY"))
	require.True(t, v.Clean(), v)
	require.Zero(t, r.bridge.Stop(), "exit code")
}

// awaitStored waits until the hub has stored n telemetry messages.
func (r *leafRig) awaitStored(n uint64) {
	r.t.Helper()
	deadline := time.Now().Add(asksAgain)
	for {
		s, err := r.js.Stream(r.t.Context(), "TELEMETRY")
		if err == nil && s.CachedInfo().State.Msgs >= n {
			return
		}
		require.True(r.t, time.Now().Before(deadline), "the hub does not get %d messages", n)
		time.Sleep(50 * time.Millisecond)
	}
}

// asksAgain is the maximum time until a hub sources again. A request without a leaf node is
// repeated after 30 s plus a growing pause, up to 2 min (nats-server 2.15).
const asksAgain = 3 * time.Minute

// Under load, the link is cut, the bridge is killed during the cut and the hub is restarted.
// Every message with a PUBACK is at the hub once and in order.
func TestHubLinkOutage(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "a cut of a minute, and the backlog after it")
	const rate, cut = 5000, 60 * time.Second
	total := rate * int((cut+4*time.Second)/time.Second)
	r := newLeafRig(t)
	l := proof.StartLoad(t, proof.LoadOptions{Addr: r.broker.Addr, Devices: 50, Total: total, Rate: rate})
	l.Release(total)
	require.True(t, l.Await(rate))
	began := time.Now()
	r.link.Down()
	third := int(cut/time.Second) * rate / 3
	require.True(t, l.Await(rate+third))
	require.False(t, r.leaf().Link.Connected)
	r.bridge.Kill9()
	r.startBridge()
	require.True(t, l.Await(rate+2*third))
	r.hub.Restart()
	l.AwaitEnd(t)
	if rest := cut - time.Since(began); rest > 0 {
		time.Sleep(rest) // the cut has a fixed length, independent of the load
	}
	proof.Mark(t, r.broker.Addr)
	s := r.leaf()
	require.False(t, s.Link.Connected)
	require.Positive(t, s.Messages)
	ready := map[string]any{}
	require.Equal(t, http.StatusOK, r.get("/readyz", &ready), "ready without a link is the purpose of leaf mode: %v", ready)

	r.link.Up()
	up := time.Now()
	seen, perSecond := r.awaitDrained()
	require.Greater(t, len(seen), 1, "the backlog was seen to fall")
	proof.AwaitMarker(t, r.js)
	v := l.Reconcile(proof.ReadLoad(t, r.js, "TELEMETRY"))
	t.Logf("%v; drained %v after the link came back, %.0f/s once the hub had asked, from %d; backlogs seen %v", v, time.Since(up).Round(time.Second), perSecond, s.Messages, seen)
	require.True(t, v.Clean(), v)
	require.Zero(t, r.bridge.Stop(), "exit code")
}
