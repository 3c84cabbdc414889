package proof

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

// patience bounds every wait. It decides nothing but how long a failure takes.
const patience = 60 * time.Second

// maxStore is room for the streams that the bridge declares, whatever the disk
// has free: it is only counted.
const maxStore = "jetstream { max_file: 64GiB }\n"

// plainRig is a real mosquitto, a real nats-server and the bridge as processes,
// on plain topics.
type plainRig struct {
	t      testing.TB
	broker *peers.MosquittoProcess
	proxy  *peers.TCPProxy // nil: none
	nats   *peers.NATSProcess
	bridge *peers.BridgeProcess
	js     natsjs.JetStream
	said   int // offset in the bridge's log up to which it has been read
}

// clientID is the session of the only lane.
const clientID = "bridge-0"

// newPlainRig returns once the bridge's session exists: from then on the broker
// keeps what is published.
func newPlainRig(t testing.TB, proxied bool) *plainRig {
	t.Helper()
	r := &plainRig{t: t}
	r.broker = peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
	addr := r.broker.Addr
	if proxied {
		r.proxy = peers.Proxy(t, addr)
		addr = r.proxy.Addr
	}
	r.nats = peers.NATSServer(t, peers.NATSOptions{Config: maxStore})
	r.js = connectNATS(t, r.nats.URL)
	r.bridge = peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Env: []string{
		"MQTT_URL=mqtt://" + addr,
		"NATS_URL=" + r.nats.URL,
		"BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_STATE_DIR=" + t.TempDir(),
		"BRIDGE_ADMIN_LISTEN=",
		"BRIDGE_LOG_FORMAT=json",
	}})
	r.awaitSession()
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
	markerTopic   = "tenant/proof/device/marker/telemetry"
	markerSubject = "tenant.proof.device.marker.telemetry"
)

func mark(t testing.TB, addr string) {
	t.Helper()
	conn, err := dialMQTT(addr, "marker", "")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write(appendPublish(nil, markerTopic, 1, []byte("the end")))
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
// meanwhile, however long that takes.
func awaitMarker(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	var last uint64
	progress := time.Now()
	for {
		s, err := js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		if _, err = s.GetLastMsgForSubject(t.Context(), markerSubject); err == nil {
			return
		}
		if seq := s.CachedInfo().State.LastSeq; seq != last {
			last, progress = seq, time.Now()
		}
		if time.Since(progress) > patience {
			require.FailNow(t, "the end of the load never came", "the stream stands at %d", last)
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
	mark(r.t, r.broker.Addr)
	awaitMarker(r.t, r.js)
	require.Zero(r.t, r.bridge.Stop(), "exit code")
	return l.judge(readLoad(r.t, r.js, "TELEMETRY"))
}
