package hostile

import (
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
	"mqtt-nats-bridge/jetstream/embedded"
)

// attestedRig runs the complete path of a device's message in one process: an mTLS device, a
// broker that attests like the EMQX rule, the bridge with its 16 lanes, and JetStream.
type attestedRig struct {
	t      testing.TB
	ca     *pki.Authority
	broker *broker.Broker
	bridge *daemon.Bridge
	js     natsjs.JetStream
	mu     sync.Mutex
	// at is the broker's fixed time of receipt.
	at       time.Time
	attested map[string]broker.Attestation // latest by topic
}

// maxPayload is the rig's limits.payload, in bytes.
const maxPayload = 4096

// newAttestedRig returns when the bridge is ready. prepare, if set, runs after the start of the
// broker and before that of the bridge.
func newAttestedRig(t testing.TB, prepare func(*attestedRig), more ...proof.Settings) *attestedRig {
	t.Helper()
	r := &attestedRig{t: t, at: time.Now().Truncate(time.Millisecond), attested: map[string]broker.Attestation{}}
	var err error
	r.ca, err = pki.New()
	require.NoError(t, err)
	devices, err := r.ca.ServerConfig()
	require.NoError(t, err)
	r.broker, err = broker.Open(broker.Options{
		TLS: devices, Username: "bridge", Password: proof.BridgePassword,
		Attest: true, AnyCN: true, DeviceUsernames: true,
		Tamper: r.note, Now: r.now,
		// More than EMQX accepts, to test the bridge's own checks.
		WillAttributes: true, DenyIgnored: true, Devices: broker.Zone{MaxPacket: 2 << 20},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.broker.Close()) })
	server := proof.StartJetStream(t, embedded.Options{})
	r.js = proof.ConnectNATS(t, server.URL())
	if prepare != nil {
		prepare(r)
	}
	all := proof.Settings{
		"mqtt.url": r.broker.URL(), "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword,
		"mqtt.max_packet": "128KiB", "nats.url": server.URL(),
		"limits.payload": fmt.Sprint(maxPayload), "limits.device.rate": "10", "limits.device.burst": "20",
	}
	for _, m := range more {
		maps.Copy(all, m)
	}
	r.bridge = proof.StartInProcess(t, all)
	proof.AwaitReady(t, r.bridge)
	return r
}

func (r *attestedRig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *attestedRig) setClock(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = at
}

// note records attestations, and corrupts that of the device "spoilt".
func (r *attestedRig) note(a *broker.Attestation) {
	if strings.Contains(a.Topic, "/device/spoilt/") {
		a.CN = "no-hex"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attested[a.Topic] = *a
}

func (r *attestedRig) id(topic string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attested[topic].ID
}

// device connects with a certificate for this common name; without a certificate if it is
// empty.
func (r *attestedRig) device(cn string) paho.Client {
	r.t.Helper()
	certificate, err := r.ca.ClientConfig(cn)
	require.NoError(r.t, err)
	return r.connect(paho.NewClientOptions().AddBroker(r.broker.TLSURL()).SetTLSConfig(certificate).SetClientID("device " + cn))
}

func (r *attestedRig) connect(o *paho.ClientOptions) paho.Client {
	r.t.Helper()
	c := paho.NewClient(o.SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(testrun.Timeout))
	proof.AwaitToken(r.t, c.Connect())
	r.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func everyByte() []byte {
	b := make([]byte, 0, 261)
	for i := range 256 {
		b = append(b, byte(i))
	}
	return append(b, 0xC3, 0x28, 0xFF, 0xFE, 0x00) // invalid UTF-8
}

func TestAttested(t *testing.T) {
	t.Parallel()
	t.Run("devices of all partitions are stored as sent", testDevicesOfAllPartitionsAreStoredAsSent)
	t.Run("only the device over its limit is limited", testOnlyTheDeviceOverItsLimitIsLimited)
	t.Run("retained copies are skipped and counted", testRetainedCopiesAreSkippedAndCounted)
}

func testDevicesOfAllPartitionsAreStoredAsSent(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	lanes := map[string]bool{}
	for i := 0; len(lanes) < 16; i++ {
		cn := fmt.Sprintf("acme/dev-%d", i)
		if lanes[broker.Partition(cn)] {
			continue
		}
		lanes[broker.Partition(cn)] = true
		dev := r.device(cn)
		for qos, kind := range []string{"unsure", "telemetry"} { // QoS 0 is stored too
			topic := fmt.Sprintf("tenant/acme/device/dev-%d/%s", i, kind)
			proof.AwaitToken(t, dev.Publish(topic, byte(qos), false, everyByte()))
			m := proof.AwaitMessage(t, r.js, "TELEMETRY", strings.ReplaceAll(topic, "/", "."))
			require.Equal(t, everyByte(), m.Data)
			require.Equal(t, map[string][]string{
				"Nats-Msg-Id": {r.id(topic)},
				"Bridge-Cn":   {cn},
				"Bridge-Time": {r.at.UTC().Format("2006-01-02T15:04:05.000Z")},
			}, map[string][]string(m.Header), "these headers and no others")
		}
		proof.AwaitToken(t, dev.Publish(fmt.Sprintf("tenant/acme/device/dev-%d/shadow/reported", i), 1, false, "{}"))
		proof.AwaitMessage(t, r.js, "SHADOW", fmt.Sprintf("tenant.acme.device.dev-%d.shadow.reported", i))
		proof.AwaitToken(t, dev.Publish(fmt.Sprintf("tenant/acme/device/dev-%d/commands/ack", i), 1, false, "{}"))
		proof.AwaitMessage(t, r.js, "COMMANDS", fmt.Sprintf("tenant.acme.device.dev-%d.commands.ack", i))
	}
	for _, lane := range r.bridge.Status(t.Context()).Lanes {
		require.EqualValues(t, 4, lane.Counts.Stored, lane.ClientID)
	}
	require.Zero(t, r.broker.Dropped())
}

func TestQuarantineReasons(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	const victim = "tenant/acme/device/victim/telemetry"
	big := strings.Repeat("x", maxPayload+1)
	huge := strings.Repeat("y", 1<<20) // more than mqtt.max_packet
	for _, c := range []struct {
		name, cn, topic, payload string
		subject                  string // in quarantine
		detail                   string
	}{
		{"impostor", "globex/impostor", victim, "x", "cn_mismatch.tenant.acme.device.victim.telemetry", `"globex/impostor"`},
		{"another tenant's namesake", "globex/victim", victim, "x", "cn_mismatch.tenant.acme.device.victim.telemetry", `"globex/victim"`},
		{"no CN", "", "tenant/acme/device/nameless/telemetry", "x", "cn_missing.tenant.acme.device.nameless.telemetry", "no certificate name"},
		{"CN with extra levels", "acme/dev-1/x", "tenant/acme/device/dev-1/telemetry", "x", "cn_mismatch.tenant.acme.device.dev-1.telemetry", `"acme/dev-1/x"`},
		{"CN of one level", "dev-2", "tenant/acme/device/dev-2/telemetry", "x", "cn_mismatch.tenant.acme.device.dev-2.telemetry", `"dev-2"`},
		{"CN with a wildcard", "acme/+", "tenant/acme/device/dev-3/telemetry", "x", "cn_mismatch.tenant.acme.device.dev-3.telemetry", `"acme/+"`},
		{"CN with all below", "acme/#", "tenant/acme/device/dev-4/telemetry", "x", "cn_mismatch.tenant.acme.device.dev-4.telemetry", `"acme/#"`},
		{"CN of another case", "acme/DEV-5", "tenant/acme/device/dev-5/telemetry", "x", "cn_mismatch.tenant.acme.device.dev-5.telemetry", `"acme/DEV-5"`},
		{"CN that is no hex", "acme/spoilt", "tenant/acme/device/spoilt/telemetry", "x", "cn_missing.tenant.acme.device.spoilt.telemetry", "no certificate name"},
		{"empty device", "acme/", "tenant/acme/device//telemetry", "x", "bad_topic", "device"},
		{"subject too long", "acme/long", "tenant/acme/device/long/" + strings.Repeat("l", 1024), "x", "bad_topic", ""},
		{"payload too large", "acme/big", "tenant/acme/device/big/telemetry", big, "payload_too_large.tenant.acme.device.big.telemetry", fmt.Sprint(maxPayload + 1)},
		{"packet too large", "acme/huge", "tenant/acme/device/huge/telemetry", huge, "payload_too_large.tenant.acme.device.huge.telemetry", fmt.Sprint(1 << 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := r.device(c.cn)
			proof.AwaitToken(t, dev.Publish(c.topic, 1, false, c.payload))
			subject := "quarantine." + c.subject
			var m *natsjs.RawStreamMsg
			proof.Eventually(t, func() bool {
				m = proof.AwaitMessage(t, r.js, "QUARANTINE", subject)
				return m.Header.Get("Nats-Msg-Id") == r.id(c.topic)
			}, func() any { return m.Header })
			reason, _, _ := strings.Cut(c.subject, ".")
			require.Equal(t, reason, m.Header.Get("Bridge-Reason"))
			require.Contains(t, m.Header.Get("Bridge-Detail"), c.detail)
			require.Equal(t, c.topic[:min(len(c.topic), 1024)], m.Header.Get("Mqtt-Topic"))
			require.Equal(t, r.at.UTC().Format("2006-01-02T15:04:05.000Z"), m.Header.Get("Bridge-Time"))
			if reason == "cn_missing" {
				require.NotContains(t, m.Header, "Bridge-Cn")
			} else {
				require.Equal(t, c.cn, m.Header.Get("Bridge-Cn"))
			}
			kept := len(c.payload)
			if reason == "payload_too_large" {
				kept = 1024 // truncated, so that one device cannot fill the quarantine
			}
			require.Equal(t, c.payload[:kept], string(m.Data))
			// The lane continues to serve other devices.
			next := r.device("acme/next")
			proof.AwaitToken(t, next.Publish("tenant/acme/device/next/telemetry", 1, false, c.name))
			proof.Eventually(t, func() bool {
				return string(proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.next.telemetry").Data) == c.name
			}, func() any { return r.bridge.Problems() })
			next.Disconnect(100)
		})
	}
	// A message in the stream may still wait for its PubAck.
	proof.Eventually(t, func() bool { return r.bridge.Totals().InFlight == 0 }, func() any { return r.bridge.Totals() })
	total := r.bridge.Totals()
	require.EqualValues(t, 26, total.Received)
	require.EqualValues(t, 13, total.Stored)
	require.EqualValues(t, 13, total.QuarantinedTotal())
	telemetry, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 13, telemetry.CachedInfo().State.Msgs, "nothing refused is among the devices' messages")
}

// The broker's clock is stopped, so every message after the burst exceeds the limit of 10 per
// second.
func testOnlyTheDeviceOverItsLimitIsLimited(t *testing.T) {
	t.Parallel()
	r := newAttestedRig(t, nil)
	dev := r.device("acme/fast")
	for i := range 25 {
		proof.AwaitToken(t, dev.Publish("tenant/acme/device/fast/telemetry", 1, false, fmt.Sprint(i)))
	}
	proof.AwaitToken(t, r.device("acme/calm").Publish("tenant/acme/device/calm/telemetry", 1, false, "x"))
	proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.calm.telemetry")
	const subject = "quarantine.rate_limited.tenant.acme.device.fast.telemetry"
	proof.Eventually(t, func() bool { return string(proof.AwaitMessage(t, r.js, "QUARANTINE", subject).Data) == "24" }, func() any { return r.bridge.Problems() })
	require.Equal(t, "rate_limited", proof.AwaitMessage(t, r.js, "QUARANTINE", subject).Header.Get("Bridge-Reason"))
	// A message in the stream may still wait for its PubAck.
	proof.Eventually(t, func() bool { return r.bridge.Totals().InFlight == 0 }, func() any { return r.bridge.Totals() })
	total := r.bridge.Totals()
	require.EqualValues(t, 21, total.Stored)
	require.EqualValues(t, 5, total.Quarantined[verdict.RateLimited])
}

func TestPoisonMessages(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "four floods of 100,000 messages")
	const n = 100_000
	const own = "tenant/globex/device/poison/telemetry"
	for name, poison := range map[string]struct {
		topic, payload string
		reason         verdict.Reason
	}{
		"of an impostor":       {"tenant/acme/device/victim/telemetry", "poison", verdict.CNMismatch},
		"without a subject":    {"tenant/globex/device//telemetry", "poison", verdict.BadTopic},
		"too large":            {own, strings.Repeat("x", maxPayload+1), verdict.PayloadTooLarge},
		"refused by JetStream": {own, strings.Repeat("x", 1000), verdict.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAttestedRig(t, nil, proof.Settings{"limits.device.rate": "0"})
			stream, err := r.js.Stream(t.Context(), "TELEMETRY")
			require.NoError(t, err)
			small := stream.CachedInfo().Config
			small.MaxMsgSize = 500
			_, err = r.js.UpdateStream(t.Context(), small)
			require.NoError(t, err)
			flood(t, strings.TrimPrefix(r.broker.URL(), "tcp://"), "globex/poison", poison.topic, poison.payload, n)
			good := r.device("acme/good")
			sent := time.Now()
			proof.AwaitToken(t, good.Publish("tenant/acme/device/good/telemetry", 1, false, "after all that"))
			proof.AwaitMessage(t, r.js, "TELEMETRY", "tenant.acme.device.good.telemetry")
			t.Logf("the next good message was stored after %v", time.Since(sent))
			proof.Eventually(t, func() bool { return r.bridge.Totals().Rejected[poison.reason] == uint64(n) }, func() any { return r.bridge.Totals() })
			require.Zero(t, r.broker.Dropped())
			proof.Eventually(t, func() bool { return r.pending() == 0 }, func() any { return r.broker.Clients() })
			total := r.bridge.Totals()
			require.EqualValues(t, n, total.Quarantined[poison.reason]+total.QuarantineSkipped+uint64(total.InFlight))
			if poison.reason != verdict.Refused { // whose limit uses the bridge's clock
				// The broker's clock is stopped, so the limit is the burst of 10.
				require.EqualValues(t, 10, total.Quarantined[poison.reason])
			}
		})
	}
}

// pending returns the number of messages that wait for a PUBACK at the broker.
func (r *attestedRig) pending() (n int) {
	for _, c := range r.broker.Clients() {
		n += c.Pending
	}
	return n
}

// flood publishes n messages at QoS 1 as the device cn, one window at a time.
func flood(t testing.TB, addr, cn, topic, payload string, n int) {
	t.Helper()
	conn, err := proof.DialMQTT(addr, cn, cn)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*testrun.Timeout)))
	acks := make([]byte, 4*proof.Window)
	for sent := 0; sent < n; sent += proof.Window {
		var batch []byte
		for i := range proof.Window {
			batch = wire.AppendPublish(batch, wire.QoS1, topic, proof.PacketID(sent+i), []byte(payload))
		}
		var write error
		var both sync.WaitGroup
		both.Go(func() { _, write = conn.Write(batch) })
		_, err := io.ReadFull(conn, acks)
		both.Wait()
		require.NoError(t, write)
		require.NoError(t, err)
	}
}

func testRetainedCopiesAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	topic := func(i int) string { return fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", i) }
	const copies = 40
	r := newAttestedRig(t, func(r *attestedRig) {
		service := r.connect(paho.NewClientOptions().AddBroker(r.broker.URL()).SetClientID("service").
			SetUsername("bridge").SetPassword(proof.BridgePassword))
		for i := range copies {
			cn := fmt.Sprintf("acme/dev-%d", i)
			a := broker.Attest("bridge/v1", fmt.Sprintf("%032X", i), r.at, cn, topic(i))
			proof.AwaitToken(r.t, service.Publish(a.Render(), 1, true, "stale"))
		}
	}, proof.Settings{"mqtt.share": "off"}) // share groups get no retained messages
	proof.Eventually(t, func() bool { return r.bridge.Totals().RetainedSkipped == copies }, func() any { return r.bridge.Totals() })
	proof.AwaitToken(t, r.device("acme/dev-0").Publish(topic(0), 1, false, "fresh"))
	require.Equal(t, "fresh", string(proof.AwaitMessage(t, r.js, "TELEMETRY", strings.ReplaceAll(topic(0), "/", ".")).Data))
	stream, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	require.EqualValues(t, 1, r.bridge.Totals().Received)
}
