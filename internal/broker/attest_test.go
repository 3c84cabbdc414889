package broker_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
)

// everyByte is 0x00 to 0xFF followed by invalid UTF-8, which no text protocol would carry.
func everyByte() []byte {
	payload := make([]byte, 0, 261)
	for i := range 256 {
		payload = append(payload, byte(i))
	}
	return append(payload, 0xC3, 0x28, 0xFF, 0xFE, 0x00)
}

func TestAttestation(t *testing.T) {
	t.Parallel()
	t.Run("topic format matches EMQX", testTopicFormatMatchesEMQX)
	t.Run("payload is unchanged at each QoS", testPayloadIsUnchangedAtEachQoS)
	t.Run("only device topics of devices are attested", testOnlyDeviceTopicsOfDevicesAreAttested)
	t.Run("user name identifies device without TLS", testUserNameIdentifiesDeviceWithoutTLS)
	t.Run("tampered attestation is delivered", testTamperedAttestationIsDelivered)
	t.Run("will with attributes is attested", testWillWithAttributesIsAttested)
}

func testTopicFormatMatchesEMQX(t *testing.T) {
	t.Parallel()
	const emqx = "bridge/v1/d/000660F22358AE4BB44B000005020002/1795442951630/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry"
	a := broker.Attest("bridge/v1", "000660F22358AE4BB44B000005020002", time.UnixMilli(1795442951630), "acme/dev-1", "tenant/acme/device/dev-1/telemetry")
	require.Equal(t, emqx, a.Render())
}

func testPayloadIsUnchangedAtEachQoS(t *testing.T) {
	t.Parallel()
	ca, config := authority(t)
	at := time.UnixMilli(1795442951630)
	b := start(t, broker.Options{TLS: config, Attest: true, Now: func() time.Time { return at }})
	bridge := subscribe(t, b, "bridge", nil, "bridge/v1/+/+/+/+/tenant/+/device/+/#")
	plain := subscribe(t, b, "plain", nil, "tenant/#")
	dev := device(t, b, ca, "acme/dev-1", "")

	seen := ""
	for _, payload := range [][]byte{everyByte(), {}} {
		for qos := range byte(3) {
			const topic = "tenant/acme/device/dev-1/telemetry"
			wait(t, dev.Publish(topic, qos, false, payload))
			m := bridge.next(t)
			levels := strings.SplitN(m.Topic(), "/", 7)
			require.Len(t, levels, 7)
			id := levels[3]
			require.Equal(t, fmt.Sprintf("bridge/v1/d/%s/1795442951630/61636D652F6465762D31/%s", id, topic), m.Topic())
			require.Regexp(t, "^[0-9A-F]{32}$", id)
			require.Greater(t, id, seen, "ids increase, even within one microsecond")
			seen = id
			require.Equal(t, payload, m.Payload())
			require.Equal(t, min(qos, 1), m.Qos(), "the subscription's QoS caps it")
			require.False(t, m.Retained())
			m.Ack()

			original := plain.next(t)
			require.Equal(t, topic, original.Topic())
			require.Equal(t, payload, original.Payload())
			original.Ack()
		}
	}
	require.Equal(t, broker.Stats{Attested: 6}, b.Stats())
	require.Zero(t, b.Dropped())
}

func TestRuleWhereClause(t *testing.T) {
	t.Parallel()
	const topic = "tenant/acme/device/dev-1/telemetry"
	long := topic + "/" + strings.Repeat("x", 1023)
	for _, tc := range []struct {
		name, cn, connectAs, topic string
		rendered                   string // CN that the bridge receives without the clause
		passes                     bool   // with the clause
	}{
		{name: "its own", cn: "acme/dev-1", topic: topic, rendered: "acme/dev-1", passes: true},
		{name: "impostor", cn: "acme/dev-2", topic: topic, rendered: "acme/dev-2", passes: true},
		{name: "longest topic", cn: "acme/dev-1", topic: long[:1023], rendered: "acme/dev-1", passes: true},
		{name: "user name beside a CN", cn: "acme/dev-2", connectAs: "acme/dev-1", topic: topic, rendered: "acme/dev-2", passes: true},
		{name: "no CN", topic: topic, rendered: "undefined"},
		{name: "no CN, user name of a victim", connectAs: "acme/dev-1", topic: topic, rendered: "acme/dev-1"},
		{name: "extra level", cn: "acme/dev-1/x", topic: topic, rendered: "acme/dev-1/x"},
		{name: "one level", cn: "dev-1", topic: topic, rendered: "dev-1"},
		{name: "empty device", cn: "acme/", topic: topic, rendered: "acme/"},
		{name: "plus", cn: "acme/+", topic: topic, rendered: "acme/+"},
		{name: "hash", cn: "acme/#", topic: topic, rendered: "acme/#"},
		{name: "too long a topic", cn: "acme/dev-1", topic: long[:1024], rendered: "acme/dev-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ca, config := authority(t)
			for _, anyCN := range []bool{false, true} {
				b := start(t, broker.Options{TLS: config, Attest: true, AnyCN: anyCN})
				bridge := subscribe(t, b, "bridge", nil, "bridge/#")
				dev := device(t, b, ca, tc.cn, tc.connectAs)
				// The PUBACK follows the rule, so the counters are complete.
				wait(t, dev.Publish(tc.topic, 1, false, "x"))
				if !anyCN && !tc.passes {
					require.Equal(t, broker.Stats{Withheld: 1}, b.Stats())
					continue
				}
				require.Equal(t, broker.Stats{Attested: 1}, b.Stats())
				levels := strings.SplitN(bridge.next(t).Topic(), "/", 7)
				sum := md5.Sum([]byte(tc.rendered))
				require.Equal(t, hex.EncodeToString(sum[:])[:1], levels[2])
				require.Equal(t, fmt.Sprintf("%X", tc.rendered), levels[5])
				require.Equal(t, tc.topic, levels[6])
			}
		})
	}
}

func testOnlyDeviceTopicsOfDevicesAreAttested(t *testing.T) {
	t.Parallel()
	ca, config := authority(t)
	b := start(t, broker.Options{TLS: config, Attest: true})
	dev := device(t, b, ca, "acme/dev-1", "")
	for _, topic := range []string{"other/acme/device/dev-1/x", "tenant/acme/gadget/dev-1/x", "tenant/acme/device", "/tenant/acme/device/dev-1/x", "x"} {
		wait(t, dev.Publish(topic, 1, false, "x"))
	}
	service := connect(t, options(b.URL(), "service").SetUsername("acme/dev-1"))
	wait(t, service.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "x"))
	require.Zero(t, b.Stats())

	for i, topic := range []string{"tenant/acme/device/dev-1", "tenant//device//x", "tenant/a/device/b/c/d e/f"} {
		wait(t, dev.Publish(topic, 1, false, "x"))
		require.EqualValues(t, i+1, b.Stats().Attested, topic)
	}
}

func testUserNameIdentifiesDeviceWithoutTLS(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Attest: true, DeviceUsernames: true, Username: "bridge", Password: "secret"})
	bridge := subscribe(t, b, "bridge", as("bridge", "secret"), "bridge/#")
	dev := connect(t, options(b.URL(), "dev").SetUsername("acme/dev-1"))
	wait(t, dev.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "x"))
	require.Contains(t, bridge.next(t).Topic(), "/61636D652F6465762D31/tenant/acme/device/dev-1/telemetry")
}

func testTamperedAttestationIsDelivered(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Attest: true, DeviceUsernames: true, Tamper: func(a *broker.Attestation) {
		if strings.HasSuffix(a.Topic, "/wild") {
			a.CN = "acme/+"
			return
		}
		a.CN = "acme"
	}})
	bridge := subscribe(t, b, "bridge", nil, "bridge/#")
	dev := connect(t, options(b.URL(), "dev").SetUsername("acme/dev-1"))
	wait(t, dev.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "x"))
	require.Contains(t, bridge.next(t).Topic(), "/acme/tenant/acme/device/dev-1/telemetry")

	// EMQX loses such a message too, after its PUBACK.
	wait(t, dev.Publish("tenant/acme/device/dev-1/wild", 1, false, "x"))
	require.Equal(t, broker.Stats{Attested: 1, Failed: 1}, b.Stats())
}

func testWillWithAttributesIsAttested(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Attest: true, DeviceUsernames: true, WillAttributes: true})
	bridge := subscribe(t, b, "bridge", nil, "bridge/#")
	connect(t, options(b.URL(), "dev").SetUsername("acme/dev-1").
		SetWill("tenant/acme/device/dev-1/status", "gone", 1, false))
	require.True(t, b.Cut("acme/dev-1/dev"))
	m := bridge.next(t)
	require.Contains(t, m.Topic(), "/61636D652F6465762D31/tenant/acme/device/dev-1/status")
	require.Equal(t, "gone", string(m.Payload()))
}
