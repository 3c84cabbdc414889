package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a broker, a nats-server and a bridge between them.
type rig struct {
	t      *testing.T
	broker *broker.Broker // nil: mosquitto
	js     natsjs.JetStream
	o      Options // options of a drill against this rig
	out    *bytes.Buffer
}

// newRig returns a rig with mTLS devices whose certificates the drill signs. tamper may be nil.
func newRig(t *testing.T, tamper func(*broker.Attestation), settings ...config.Flag) *rig {
	t.Helper()
	return newRigOn(t, broker.Options{Tamper: tamper, WillAttributes: true}, settings...)
}

func newRigOn(t *testing.T, o broker.Options, settings ...config.Flag) *rig {
	t.Helper()
	authority, err := pki.New()
	require.NoError(t, err)
	ca, err := authority.WriteFiles(t.TempDir())
	require.NoError(t, err)
	server, err := authority.ServerConfig()
	require.NoError(t, err)
	o.TLS, o.Username, o.Password, o.Attest = server, "bridge", "secret", true
	b, err := broker.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r := bridged(t, b.URL(), append([]config.Flag{
		{Path: "mqtt.username", Value: "bridge"}, {Path: "mqtt.password", Value: "secret"},
	}, settings...))
	r.broker = b
	r.o.Broker = brokerURL(t, strings.Replace(b.TLSURL(), "ssl://", "mqtts://", 1))
	r.o.CACert, r.o.CAKey = ca.Cert, ca.Key
	return r
}

func brokerURL(t *testing.T, text string) config.BrokerURL {
	t.Helper()
	u, err := config.ParseBrokerURL(text)
	require.NoError(t, err)
	return u
}

// bridged starts a nats-server and the bridge, and waits until it is ready.
func bridged(t *testing.T, mqttURL string, settings []config.Flag) *rig {
	t.Helper()
	server, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	c, err := config.Load(config.Sources{Flags: append([]config.Flag{
		{Path: "mqtt.url", Value: mqttURL}, {Path: "nats.url", Value: server.URL()},
		{Path: "limits.device.rate", Value: "0"}, {Path: "state_dir", Value: t.TempDir()},
	}, settings...)})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	d, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.Nop(), Version: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	require.Eventually(t, func() bool { return len(d.Problems()) == 0 }, testrun.Timeout, 5*time.Millisecond)

	nc, err := nats.Connect(server.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	out := &bytes.Buffer{}
	r := &rig{t: t, js: js, out: out, o: Options{
		Out: out, JSON: true, For: testrun.Timeout / 60, Settle: testrun.Timeout,
		Devices: 8, Rate: 400, Window: 20, Size: 128, KeepAlive: DefaultKeepAlive, Tenant: DefaultTenant, Topic: DefaultTopic,
		NATS: account.Options(c.NATS.Account, "drill"), Topics: plan.Rules.Topics, Quarantine: c.Streams.Quarantine.Name,
		LaneClientID: c.ClientIDs()[0],
		lead:         50 * time.Millisecond, hold: 100 * time.Millisecond,
	}}
	for _, s := range plan.Streams {
		r.o.Streams = append(r.o.Streams, s.Name)
	}
	return r
}

// drill runs a drill and returns its report.
func (r *rig) drill(ctx context.Context) (*Report, error) {
	r.t.Helper()
	err := Run(ctx, r.o)
	report := &Report{}
	require.NoError(r.t, json.Unmarshal(r.out.Bytes(), report), "%v", err)
	require.Equal(r.t, err == nil, report.OK)
	return report, err
}

// expectation returns the report's expectation of that name.
func (r *Report) expectation(t *testing.T, name string) Expectation {
	t.Helper()
	for _, e := range r.Expectations {
		if e.Name == name {
			return e
		}
	}
	require.Fail(t, "no expectation "+name)
	return Expectation{}
}

func TestDrill(t *testing.T) {
	t.Parallel()
	t.Run("all acknowledged messages are stored", testAllAcknowledgedMessagesAreStored)
	t.Run("burst over limit fails", testBurstOverLimitFails)
	t.Run("loss is found", testLossIsFound)
	t.Run("duplicate and wrong device are found", testDuplicateAndWrongDeviceAreFound)
	t.Run("mosquitto restart loses nothing", testMosquittoRestartLosesNothing)
	t.Run("unreachable broker and NATS are reported", testUnreachableBrokerAndNATSAreReported)
}

func testAllAcknowledgedMessagesAreStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.o.Burst, r.o.Impostor, r.o.Will, r.o.Window = 500, true, true, 100
	report, err := r.drill(t.Context())
	require.NoError(t, err)
	require.Greater(t, report.Acknowledged, 500)
	require.Equal(t, report.Published, report.Acknowledged)
	require.Equal(t, report.Acknowledged, report.Stored)
	require.Empty(t, report.Quarantined)
	require.Len(t, report.Expectations, 3)
	for _, e := range report.Expectations {
		require.True(t, e.OK, e)
	}
	require.Regexp(t, `0 stored as drill/d-1, \d in quarantine \(\d cn_mismatch\)`, report.expectation(t, "impostor").Seen)
	require.Equal(t, "500 acknowledged, 500 stored, 0 rejected, 0 lost", report.expectation(t, "burst").Seen)
	require.Equal(t, "3 connections cut, 3 wills stored", report.expectation(t, "will").Seen)
}

// If devices choose their client ids, a device can take over a lane's session (E2). A will that
// the broker publishes without attributes is not delivered (E6).
func TestDrillBroker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broker broker.Options
		hijack string // expected finding
		ok     bool
	}{
		"shipped":         {broker.Options{}, "clean session 0: accepted, session present false, 0 messages received; clean session 1: accepted, session present false, 0 messages received", true},
		"open client ids": {broker.Options{GlobalClientIDs: true}, "clean session 0: accepted, session present true", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, c.broker)
			r.o.Hijack, r.o.Will, r.o.Settle = true, true, time.Second
			report, err := r.drill(t.Context())
			require.ErrorIs(t, err, ErrFailed)
			require.Equal(t, "3 connections cut, 0 wills stored", report.expectation(t, "will").Seen)
			e := report.expectation(t, "hijack")
			require.Equal(t, c.ok, e.OK)
			require.Contains(t, e.Seen, c.hijack)
		})
	}
}

func testBurstOverLimitFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, config.Flag{Path: "limits.device.rate", Value: "100"}, config.Flag{Path: "limits.device.burst", Value: "100"},
		config.Flag{Path: "quarantine.per_device.burst", Value: "10000"})
	r.o.Burst, r.o.Window = 1000, 1000
	report, err := r.drill(t.Context())
	require.ErrorIs(t, err, ErrFailed)
	require.False(t, report.expectation(t, "burst").OK)
	require.Positive(t, report.Quarantined["rate_limited"])
	require.Zero(t, report.Lost, "a quarantined message is no loss")
}

// The drill finds messages that the broker acknowledged and dropped, with device and time.
func testLossIsFound(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	r := newRig(t, func(a *broker.Attestation) {
		if n.Add(1)%100 == 50 {
			a.Prefix = "elsewhere" // a prefix without subscribers
		}
	})
	r.o.Settle = testrun.Timeout / 24
	before := time.Now()
	report, err := r.drill(t.Context())
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorContains(t, err, fmt.Sprintf("%d lost", report.Lost))
	require.EqualValues(t, (n.Load()+50)/100, report.Lost)
	require.Len(t, report.FirstLost, min(report.Lost, maxListed))
	require.Regexp(t, `^drill/d-\d$`, report.FirstLost[0].Device)
	require.WithinRange(t, report.FirstLost[0].At, before, time.Now())
	require.Zero(t, report.Duplicated+report.Inversions+report.WrongDevice)
}

// Plants three copies of a withheld message in the stream: one late, one duplicate, and one under
// another device's subject.
func testDuplicateAndWrongDeviceAreFound(t *testing.T) {
	t.Parallel()
	var diverted atomic.Bool
	r := newRig(t, func(a *broker.Attestation) {
		if !strings.HasSuffix(a.Topic, "/d-1/telemetry") {
			return
		}
		if diverted.CompareAndSwap(false, true) {
			a.Prefix = "elsewhere"
		}
	})
	client := paho.NewClient(paho.NewClientOptions().AddBroker(r.broker.URL()).SetClientID("thief").
		SetUsername("bridge").SetPassword("secret").SetProtocolVersion(4))
	wait := func(token paho.Token) {
		require.True(t, token.WaitTimeout(testrun.Timeout))
		require.NoError(t, token.Error())
	}
	wait(client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	stolen := make(chan []byte, 1)
	wait(client.Subscribe("elsewhere/#", 1, func(_ paho.Client, m paho.Message) { stolen <- m.Payload() }))

	ctx, cancel := context.WithCancel(t.Context())
	r.o.For = 0
	planted := make(chan error, 1)
	go func() {
		planted <- func() error {
			defer cancel()
			payload := <-stolen
			const own, other = "tenant.drill.device.d-1.telemetry", "tenant.drill.device.d-2.telemetry"
			stream, err := r.js.Stream(ctx, "TELEMETRY")
			for err == nil { // wait for a later message of the device
				if _, err = stream.GetLastMsgForSubject(ctx, own); err == nil {
					break
				}
				if strings.Contains(err.Error(), "not found") {
					err = nil
				}
				time.Sleep(5 * time.Millisecond) // polling interval
			}
			for _, subject := range []string{own, own, other} {
				if err == nil {
					_, err = r.js.Publish(ctx, subject, payload)
				}
			}
			return err
		}()
	}()
	report, err := r.drill(ctx)
	require.NoError(t, <-planted)
	require.ErrorIs(t, err, ErrFailed)
	require.Equal(t, []int{0, 1, 1, 1}, []int{report.Lost, report.Duplicated, report.Inversions, report.WrongDevice})
	var kinds []string
	for _, m := range report.Findings {
		kinds = append(kinds, m.Kind)
		require.Equal(t, "drill/d-1", m.Device)
	}
	require.Equal(t, []string{"inverted", "duplicated", "wrong_device"}, kinds)
}

// On plain topics, a real broker restarts and keeps its sessions. Devices reconnect and resend
// unacknowledged messages.
func testMosquittoRestartLosesNothing(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
	r := bridged(t, m.URL, []config.Flag{{Path: "identity.mode", Value: "off"}})
	r.o.Broker, r.o.For = brokerURL(t, "mqtt://"+m.Addr), 0
	ctx, cancel := context.WithCancel(t.Context())
	stored := func(n uint64) uint64 {
		var last uint64
		require.Eventually(t, func() bool {
			s, err := r.js.Stream(t.Context(), "TELEMETRY")
			if err == nil {
				last = s.CachedInfo().State.LastSeq
			}
			return last >= n
		}, testrun.Timeout, 10*time.Millisecond)
		return last
	}
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		defer cancel()
		last := stored(200)
		m.Restart()
		stored(last + 400)
	}()
	report, err := r.drill(ctx)
	<-restarted
	require.NoError(t, err, r.out.String())
	require.GreaterOrEqual(t, report.ConnectionsLost, uint64(r.o.Devices))
	require.Equal(t, report.Published, report.Acknowledged)
	require.Equal(t, report.Acknowledged+report.Resent, report.Stored)
}

func testUnreachableBrokerAndNATSAreReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.o.Broker = brokerURL(t, "mqtts://127.0.0.1:1")
	require.ErrorContains(t, Run(t.Context(), r.o), "connection refused")
	r.o.NATS.URL = "nats://127.0.0.1:1"
	require.ErrorContains(t, Run(t.Context(), r.o), "cannot be reached")
}
