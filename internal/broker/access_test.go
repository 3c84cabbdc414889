package broker_test

import (
	"crypto/tls"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/testrun"
)

func as(username, password string) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) { o.SetUsername(username).SetPassword(password) }
}

func TestPasswordRefusal(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Username: "bridge", Password: "secret"})
	for _, tc := range []struct{ username, password string }{
		{"bridge", "wrong"}, {"bridge", ""}, {"bridge", "secret2"}, {"other", "secret"}, {"", ""},
	} {
		_, err := try(options(b.URL(), "c").SetUsername(tc.username).SetPassword(tc.password))
		require.ErrorIs(t, err, packets.ErrorRefusedNotAuthorised, "%+v", tc)
	}
	connect(t, options(b.URL(), "c").SetUsername("bridge").SetPassword("secret"))
}

func TestDeviceListenerCertificates(t *testing.T) {
	t.Parallel()
	ca, config := authority(t)
	other, _ := authority(t)
	b := start(t, broker.Options{TLS: config})
	stranger, err := other.ClientConfig("acme/dev-1")
	require.NoError(t, err)
	stranger.RootCAs = ca.Pool()
	for name, config := range map[string]*tls.Config{"none": {RootCAs: ca.Pool()}, "another authority's": stranger} {
		_, err := try(options(b.TLSURL(), "c").SetTLSConfig(config))
		require.Error(t, err, name)
	}
	require.Empty(t, b.Clients())

	_, err = broker.Open(broker.Options{TLS: &tls.Config{}})
	require.ErrorContains(t, err, "client certificate")
}

func TestAttestedTopicACL(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Attest: true, DeviceUsernames: true, DenyIgnored: true})
	bridge := subscribe(t, b, "bridge", nil, "bridge/#")
	dev := connect(t, options(b.URL(), "dev").SetUsername("acme/dev-1"))

	for _, filter := range []string{"bridge/#", "bridge", "bridge/v1/+/+", "#", "+/#", "+/v1/#", "$share/g/bridge/#", "$share/g/#", "$SYS/#"} {
		token := dev.Subscribe(filter, 1, nil).(*paho.SubscribeToken)
		require.True(t, token.WaitTimeout(testrun.Timeout))
		require.Equal(t, []byte{0x80}, granted(token), filter)
	}
	wait(t, dev.Publish("bridge/v1/0/x/1/61/tenant/acme/device/dev-1/telemetry", 1, false, "forged"))
	require.Equal(t, broker.Stats{Denied: 1}, b.Stats(), "acknowledged and gone")

	connect(t, options(b.URL(), "will").SetUsername("acme/dev-2").SetWill("bridge/v1/x", "forged", 1, false))
	require.True(t, b.Cut("acme/dev-2/will"))
	require.Equal(t, broker.Stats{Denied: 2}, b.Stats())

	wait(t, dev.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "honest"))
	require.Equal(t, "honest", string(bridge.next(t).Payload()), "the first thing that the bridge sees")
}

func TestDeviceACL(t *testing.T) {
	t.Parallel()
	for _, confined := range []bool{false, true} {
		b := start(t, broker.Options{Attest: true, DeviceUsernames: true, AnyCN: true, DeviceACL: confined, DenyIgnored: true})
		for i, tc := range []struct {
			cn, topic string
			denied    bool
		}{
			{"acme/dev-1", "tenant/acme/device/dev-1/telemetry", false},
			{"acme/dev-1", "tenant/acme/device/dev-2/telemetry", true},
			{"acme/dev-1", "tenant/acme/device/dev-10/telemetry", true},
			{"acme/+", "tenant/acme/device/dev-1/telemetry", true},
			{"dev-1", "tenant/dev-1/device/", true},
		} {
			dev := connect(t, options(b.URL(), "dev").SetUsername(tc.cn))
			before := b.Stats()
			wait(t, dev.Publish(tc.topic, 1, false, "x"))
			after := b.Stats()
			if confined && tc.denied {
				require.Equal(t, before.Denied+1, after.Denied, i)
			} else {
				require.Equal(t, before.Attested+1, after.Attested, i)
			}
		}
	}
}

func TestOversizePacket(t *testing.T) {
	t.Parallel()
	lost := make(chan error, 1)
	b := start(t, broker.Options{Services: broker.Zone{MaxPacket: 4096}})
	c := connect(t, options(b.URL(), "c").SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err }))
	c.Publish("t", 0, false, make([]byte, 5000))
	require.Error(t, <-lost)
	connect(t, options(b.URL(), "c2"))
}
