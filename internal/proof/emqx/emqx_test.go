package emqx

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/gate"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// The tests of this file are named after the rows of docs/emqx.md. internal/broker tests that
// the embedded broker behaves like EMQX. These tests follow each acknowledged message through
// the bridge.

// emqxRig is an in-process bridge and a broker that can be restarted like EMQX.
type emqxRig struct {
	t      *testing.T
	bridge *daemon.Bridge
	js     natsjs.JetStream
	api    *httptest.Server // of the current broker

	mu     sync.Mutex
	broker *broker.Broker
	acked  map[string]int // the device of each payload
	sent   int
}

const emqxDevices = 4

func newEMQXRig(t *testing.T, o broker.Options, more proof.Settings) *emqxRig {
	t.Helper()
	r := &emqxRig{t: t, acked: map[string]int{}}
	r.start(o)
	t.Cleanup(func() { require.NoError(t, r.now().Close()) })
	r.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.now().API().ServeHTTP(w, q) }))
	t.Cleanup(r.api.Close)
	server := proof.StartJetStream(t, embedded.Options{})
	r.js = proof.ConnectNATS(t, server.URL())
	all := proof.Settings{
		"mqtt.url": r.broker.URL(), "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword, "nats.url": server.URL(),
	}
	for path, value := range more {
		all[path] = value
	}
	r.bridge = proof.StartInProcess(t, all)
	proof.AwaitReady(t, r.bridge)
	return r
}

// start starts a broker that replaces the previous one.
func (r *emqxRig) start(o broker.Options) {
	r.t.Helper()
	o.Attest, o.DeviceUsernames, o.Username, o.Password = true, true, "bridge", proof.BridgePassword
	if r.broker == nil {
		o.Listen = testrun.Address(r.t).String()
	} else {
		o.Listen = strings.TrimPrefix(r.broker.URL(), "tcp://")
	}
	b, err := broker.Open(o)
	require.NoError(r.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broker = b
}

func (r *emqxRig) now() *broker.Broker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broker
}

func (r *emqxRig) dial(cn, id string, change func(*paho.ClientOptions)) (paho.Client, error) {
	o := paho.NewClientOptions().AddBroker(r.now().URL()).SetClientID(id).SetUsername(cn).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(testrun.Timeout)
	if change != nil {
		change(o)
	}
	c := paho.NewClient(o)
	token := c.Connect()
	token.WaitTimeout(testrun.Timeout)
	return c, token.Error()
}

func (r *emqxRig) device(cn, id string, change func(*paho.ClientOptions)) paho.Client {
	r.t.Helper()
	c, err := r.dial(cn, id, change)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// publish sends one message of device n and reports whether the broker acknowledged it.
func (r *emqxRig) publish(c paho.Client, n int) bool {
	r.mu.Lock()
	r.sent++
	payload := fmt.Sprint(r.sent)
	r.mu.Unlock()
	token := c.Publish(fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", n), 1, false, payload)
	if !token.WaitTimeout(testrun.Timeout) || token.Error() != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked[payload] = n
	return true
}

// load runs devices that publish until stop is called and reconnect without delay.
func (r *emqxRig) load() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var wait sync.WaitGroup
	for n := range emqxDevices {
		wait.Go(func() {
			for ctx.Err() == nil {
				c, err := r.dial(fmt.Sprintf("acme/dev-%d", n), "d", nil)
				for err == nil && ctx.Err() == nil && r.publish(c, n) {
					sleep.For(ctx, 20*time.Millisecond)
				}
				c.Disconnect(0)
				sleep.For(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() { cancel(); wait.Wait() }
}

func (r *emqxRig) ackedCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acked)
}

// allAcked reports whether every device has at least one acknowledged message.
func (r *emqxRig) allAcked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	devices := map[int]bool{}
	for _, n := range r.acked {
		devices[n] = true
	}
	return len(devices) == emqxDevices
}

// lost waits until no message is in flight and returns how many acknowledged messages are in no
// stream.
func (r *emqxRig) lost() int {
	r.t.Helper()
	proof.Eventually(r.t, func() bool {
		for _, c := range r.now().Clients() {
			if c.Pending > 0 {
				return false
			}
		}
		return r.bridge.Totals().InFlight == 0
	}, func() any { return r.now().Clients() })
	stored := map[string]bool{}
	for _, name := range []string{"TELEMETRY", "QUARANTINE"} {
		stream, err := r.js.Stream(r.t.Context(), name)
		require.NoError(r.t, err)
		for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			m, err := stream.GetMsg(r.t.Context(), seq)
			require.NoError(r.t, err)
			stored[string(m.Data)] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for payload := range r.acked {
		if !stored[payload] {
			n++
		}
	}
	return n
}

// gated runs the gate against the current broker's API until the test ends.
func (r *emqxRig) gated() {
	client := emqx.New(emqx.Options{API: r.api.URL, Key: "k", Secret: func() (string, error) { return "s", nil }})
	ctx, cancel := context.WithCancel(r.t.Context())
	var wait sync.WaitGroup
	lanes := make([]string, 16)
	for i := range lanes {
		lanes[i] = fmt.Sprintf("bridge-p%x", i)
	}
	wait.Go(func() {
		_ = gate.Run(ctx, gate.Options{
			EMQX: client, Listener: "ssl:default", Lanes: lanes, Prefix: "bridge/v1", Log: zerolog.Nop(),
			Ready: func(context.Context) error {
				if ready, problems := r.bridge.Ready(); !ready {
					return fmt.Errorf("%v", problems)
				}
				return nil
			},
		})
	})
	r.t.Cleanup(func() { cancel(); wait.Wait(); client.Close() })
}

// restart restarts the broker while no message is in flight, because losses from EMQX's own
// queues do not count here. Its parts stay unloaded until the caller loads them.
func (r *emqxRig) restart(o broker.Options) {
	r.t.Helper()
	require.Zero(r.t, r.lost())
	require.NoError(r.t, r.now().Close())
	o.Unloaded = broker.Everything
	r.start(o)
}

func (r *emqxRig) refused() bool {
	for _, p := range r.bridge.Problems() {
		if p.Component == "mqtt" && strings.Contains(p.Problem, "CONNACK 5") {
			return true
		}
	}
	return false
}

func TestE1Restart(t *testing.T) {
	t.Parallel()
	t.Run("with gate loses nothing", testWithGateLosesNothing)
	t.Run("without gate loses messages", testWithoutGateLosesMessages)
}

func testWithGateLosesNothing(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, proof.Settings{"limits.device.rate": "0"})
	r.gated()
	c := r.device("acme/dev-0", "before", nil)
	require.True(t, r.publish(c, 0))
	r.restart(broker.Options{Gate: true})
	stop := r.load()
	proof.Eventually(t, r.refused, func() any { return r.bridge.Problems() })
	require.Equal(t, 1, r.ackedCount(), "no device gets in")
	r.now().Load(broker.Everything)
	proof.Eventually(t, func() bool { return r.ackedCount() > 100 }, func() any { return r.bridge.Problems() })
	stop()
	require.Zero(t, r.lost())
	require.Zero(t, r.now().Stats().Denied+r.now().Stats().Withheld)
}

// Shows the loss that the gate prevents: EMQX drops the messages before they reach the bridge.
func testWithoutGateLosesMessages(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, proof.Settings{"limits.device.rate": "0"})
	r.restart(broker.Options{DenyIgnored: true, AuthzCache: time.Minute})
	stop := r.load()
	// A device whose first publish comes later has no refusal in its cache.
	proof.Eventually(t, func() bool { return r.ackedCount() >= 20 && r.allAcked() }, func() any { return r.now().Stats() })
	r.now().Load(broker.Everything)
	stop()
	proof.AwaitReady(t, r.bridge)
	require.Equal(t, r.ackedCount(), r.lost())
	require.EqualValues(t, r.ackedCount(), r.now().Stats().Denied)
}

func TestE2Override(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, nil)
	lane := "bridge-p" + broker.Partition("acme/dev-1")
	var stolen atomic.Int64
	for _, clean := range []bool{false, true} {
		r.device("globex/thief", lane, func(o *paho.ClientOptions) {
			o.SetCleanSession(clean).SetDefaultPublishHandler(func(paho.Client, paho.Message) { stolen.Add(1) })
		})
	}
	c := r.device("acme/dev-1", "d", nil)
	for range 10 {
		require.True(t, r.publish(c, 1))
	}
	require.Zero(t, r.lost())
	require.Zero(t, stolen.Load())
	require.Len(t, r.bridge.Problems(), 0)
	for _, l := range r.bridge.Status(t.Context()).Lanes {
		require.EqualValues(t, 1, l.Session.Connects, l.ClientID)
	}
}

// Without the override, a device can take over a lane's session. The bridge cannot prevent it,
// but warns and takes the session back.
func TestE2Hijack(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean session %t", clean), func(t *testing.T) {
			t.Parallel()
			r := newEMQXRig(t, broker.Options{GlobalClientIDs: true}, nil)
			lane := "bridge-p" + broker.Partition("acme/dev-1")
			r.device("globex/thief", lane, func(o *paho.ClientOptions) { o.SetCleanSession(clean) })
			proof.Eventually(t, func() bool { return strings.Contains(fmt.Sprint(r.bridge.Warnings()), lane) },
				func() any { return r.bridge.Warnings() })
			proof.AwaitReady(t, r.bridge)
			require.True(t, r.publish(r.device("acme/dev-1", "d", nil), 1))
			require.Zero(t, r.lost())
			require.Contains(t, fmt.Sprint(r.bridge.Warnings()), lane, "the warning stays")
		})
	}
}

// A broker that refuses a lane right after its start counts as a refusal. Every lane recovers
// on a new connection.
func TestE3RefusalAfterStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options broker.Options
		loaded  broker.Part
		says    string
	}{
		"CONNACK 5":   {says: "refuses the credentials"},
		"SUBACK 0x80": {broker.Options{DenyIgnored: true, AuthzCache: time.Hour}, broker.Authentication, "refused the subscription"},
		"closed":      {broker.Options{}, broker.Authentication, "refused the subscription"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newEMQXRig(t, broker.Options{}, nil)
			r.restart(c.options)
			r.now().Load(c.loaded)
			said := func() string { return fmt.Sprint(r.bridge.Problems(), r.bridge.Warnings()) }
			proof.Eventually(t, func() bool {
				require.NotRegexp(t, "another client (seems|may have)", said())
				return strings.Contains(said(), c.says)
			}, func() any { return said() })
			r.now().Load(broker.Everything)
			proof.AwaitReady(t, r.bridge)
			require.NotRegexp(t, "another client (seems|may have)", said())
		})
	}
}

// After an outage, a device sends 500 messages in one burst. The broker's rate limit releases
// them in batches with equal timestamps. With the default limits, the bridge rejects none of
// them.
func TestE4ReleasedLumps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		window, rate int
		more         proof.Settings
		rejects      bool
	}{
		"20 in flight":             {20, 100, nil, false},
		"100 in flight":            {100, 100, nil, false},
		"500 in flight":            {500, 100, nil, false},
		"limits 10/s, burst of 20": {500, 10, proof.Settings{"limits.device.rate": "10", "limits.device.burst": "20"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &lumpClock{at: time.Now().Add(-time.Hour)}
			r := newEMQXRig(t, broker.Options{MessagesRate: float64(tc.rate), Now: clock.now, Pause: clock.pause}, tc.more)
			const messages = 500
			conn, err := proof.DialMQTT(strings.TrimPrefix(r.now().URL(), "tcp://"), "d", "acme/dev-1")
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(testrun.Timeout)))
			for sent := 0; sent < messages; sent += tc.window {
				var batch []byte
				for i := range tc.window {
					batch = wire.AppendPublish(batch, wire.QoS1, "tenant/acme/device/dev-1/telemetry", proof.PacketID(sent+i), []byte("x"))
				}
				_, err = conn.Write(batch)
				require.NoError(t, err)
				_, err = io.ReadFull(conn, make([]byte, 4*tc.window))
				require.NoError(t, err)
			}
			proof.Eventually(t, func() bool { c := r.bridge.Totals(); return c.Received == messages && c.InFlight == 0 }, func() any { return r.bridge.Totals() })
			require.Equal(t, tc.rejects, r.bridge.Totals().Rejected[verdict.RateLimited] > 0)
		})
	}
}

// lumpClock advances only by the pauses of the rate limit.
type lumpClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *lumpClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *lumpClock) pause(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// The broker acknowledges a topic that matches no pattern, and the lane receives it: a lane
// subscribes to its whole partition.
func TestE5UnmatchedTopic(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, nil)
	c := r.device("acme/dev-1", "d", nil)
	for _, topic := range []string{"tenant/acme/device/dev-1", "tenant/acme/device/dev-1/a/b", "tenant/acme/device/dev-1/shadow/desired"} {
		proof.AwaitToken(t, c.Publish(topic, 1, false, topic))
	}
	proof.Eventually(t, func() bool { return r.bridge.Totals().Quarantined[verdict.BadTopic] == 3 }, func() any { return r.bridge.Totals() })
}

// A will carries no attributes of its device, so the rule withholds it.
func TestE6Will(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, nil)
	r.device("acme/dev-1", "d", func(o *paho.ClientOptions) {
		o.SetWill("tenant/acme/device/dev-1/telemetry", "gone", 1, false)
	})
	require.True(t, r.now().Cut("acme/dev-1/d"))
	proof.Eventually(t, func() bool { return r.now().Stats().Withheld == 1 }, func() any { return r.now().Stats() })
	require.True(t, r.publish(r.device("acme/dev-2", "d", nil), 2))
	require.Zero(t, r.lost())
	require.EqualValues(t, 1, r.bridge.Totals().Received, "the will is not among them")
}

func TestE8SharedLaneTakeover(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{TakeoverRace: time.Hour}, proof.Settings{"limits.device.rate": "0"})
	lane := "bridge-p" + broker.Partition("acme/dev-1")
	c := r.device("acme/dev-1", "d", nil)
	for i := range 5 {
		require.True(t, r.publish(c, 1))
		require.True(t, r.now().Cut(lane))
		proof.Eventually(t, func() bool {
			for _, l := range r.bridge.Status(t.Context()).Lanes {
				if l.ClientID == lane {
					return l.Session.Connects == uint64(i)+2 && l.Session.Subscribed
				}
			}
			return false
		}, func() any { return r.bridge.Problems() })
	}
	require.True(t, r.publish(c, 1))
	require.Zero(t, r.now().Counters().TakeoverLost)
	require.Zero(t, r.lost())
}

func TestE9KickedLane(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{}, proof.Settings{"limits.device.rate": "0"})
	lane := "bridge-p" + broker.Partition("acme/dev-1")
	c := r.device("acme/dev-1", "d", nil)
	require.True(t, r.publish(c, 1))
	require.Zero(t, r.lost())
	require.True(t, r.now().Kick(lane))
	proof.Eventually(t, func() bool {
		for _, l := range r.bridge.Status(t.Context()).Lanes {
			if l.ClientID == lane {
				return l.Session.SessionsLost == 1 && l.Session.Subscribed
			}
		}
		return false
	}, func() any { return r.bridge.Problems() })
	require.True(t, r.publish(c, 1))
	require.Zero(t, r.lost())
	require.Contains(t, fmt.Sprint(r.bridge.Warnings()), lane, "the warning stays")
}

func TestE11Impostor(t *testing.T) {
	t.Parallel()
	r := newEMQXRig(t, broker.Options{DeviceACL: true}, nil)
	lost := make(chan error, 1)
	c := r.device("globex/impostor", "d", func(o *paho.ClientOptions) {
		o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
	})
	require.False(t, r.publish(c, 1))
	require.Error(t, <-lost)
	honest := r.device("acme/dev-1", "d", nil)
	require.True(t, r.publish(honest, 1))
	require.Zero(t, r.lost())
	require.Zero(t, r.bridge.Totals().Rejected[verdict.CNMismatch])
	require.EqualValues(t, 1, r.now().Stats().Denied)
}
