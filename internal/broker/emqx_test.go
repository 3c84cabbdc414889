package broker_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	mqtt5 "github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// The tests of this file are named after the rows of docs/emqx.md. They check that the broker
// behaves like EMQX; internal/proof/emqx tests the bridge's side.

const own = "tenant/acme/device/dev-1/telemetry"

// attesting starts a broker with the attestation rule and devices identified by user name.
func attesting(o broker.Options) broker.Options {
	o.Attest, o.DeviceUsernames, o.Username, o.Password = true, true, "bridge", "secret"
	return o
}

func named(t *testing.T, b *broker.Broker, cn, id string) paho.Client {
	t.Helper()
	return connect(t, options(b.URL(), id).SetUsername(cn))
}

// lane subscribes like a lane of the bridge.
func lane(t *testing.T, b *broker.Broker, id string, filters ...string) *subscriber {
	t.Helper()
	return subscribe(t, b, id, as("bridge", "secret"), filters...)
}

func session(t *testing.T, b *broker.Broker, id string) broker.Client {
	t.Helper()
	for _, c := range b.Clients() {
		if c.ID == id {
			return c
		}
	}
	require.FailNow(t, "no session "+id)
	return broker.Client{}
}

func TestE1StartBeforeACLAndRule(t *testing.T) {
	t.Parallel()
	t.Run("deny ignored", func(t *testing.T) {
		t.Parallel()
		b := start(t, attesting(broker.Options{Unloaded: broker.Everything, DenyIgnored: true}))
		_, err := try(options(b.URL(), "bridge").SetUsername("bridge").SetPassword("secret"))
		require.ErrorIs(t, err, packets.ErrorRefusedNotAuthorised)
		dev := named(t, b, "acme/dev-1", "d")
		wait(t, dev.Publish(own, 1, false, "acknowledged and gone"))
		require.Equal(t, broker.Stats{Denied: 1}, b.Stats())

		b.Load(broker.Authentication)
		bridge := lane(t, b, "bridge")
		token := bridge.Subscribe("bridge/#", 1, nil).(*paho.SubscribeToken)
		require.True(t, token.WaitTimeout(testrun.Timeout))
		require.Equal(t, []byte{0x80}, granted(token))

		b.Load(broker.ACL)
		wait(t, bridge.Subscribe("bridge/#", 1, nil))
		wait(t, dev.Publish(own, 1, false, "no rule yet"))
		require.Equal(t, broker.Stats{Denied: 1, Withheld: 1}, b.Stats())
		b.Load(broker.Rule)
		wait(t, dev.Publish(own, 1, false, "arrives"))
		require.Equal(t, "arrives", string(bridge.next(t).Payload()))
	})
	t.Run("deny disconnects", func(t *testing.T) {
		t.Parallel()
		b := start(t, attesting(broker.Options{Unloaded: broker.ACL}))
		lost := make(chan error, 2)
		onLost := func(_ paho.Client, err error) { lost <- err }
		dev := connect(t, options(b.URL(), "d").SetUsername("acme/dev-1").SetConnectionLostHandler(onLost))
		token := dev.Publish(own, 1, false, "not acknowledged")
		require.Error(t, <-lost)
		require.Error(t, tokenError(t, token))
		bridge := lane(t, b, "bridge")
		require.Error(t, tokenError(t, bridge.Subscribe("bridge/#", 1, nil)))
		// The client sees the end of its connection before the broker has cleaned up.
		require.Eventually(t, func() bool { return !session(t, b, "bridge").Connected }, testrun.Timeout, time.Millisecond)
	})
	t.Run("the cache keeps the refusal", func(t *testing.T) {
		t.Parallel()
		b := start(t, attesting(broker.Options{Unloaded: broker.ACL, DenyIgnored: true, AuthzCache: time.Hour}))
		dev := named(t, b, "acme/dev-1", "d")
		wait(t, dev.Publish(own, 1, false, "gone"))
		b.Load(broker.ACL)
		wait(t, dev.Publish(own, 1, false, "gone too"))
		require.Equal(t, broker.Stats{Denied: 2}, b.Stats())
		again := named(t, b, "acme/dev-1", "d")
		wait(t, again.Publish(own, 1, false, "another connection"))
		require.Equal(t, broker.Stats{Denied: 2, Attested: 1}, b.Stats())
	})
	t.Run("the gate", func(t *testing.T) {
		t.Parallel()
		ca, config := authority(t)
		b := start(t, broker.Options{TLS: config, DeviceUsernames: true, Gate: true})
		certificate, err := ca.ClientConfig("acme/dev-1")
		require.NoError(t, err)
		for _, o := range []*paho.ClientOptions{
			options(b.TLSURL(), "d").SetTLSConfig(certificate), options(b.URL(), "d").SetUsername("acme/dev-1"),
		} {
			_, err = try(o)
			require.Error(t, err)
		}
		connect(t, options(b.URL(), "service"))
		b.OpenGate()
		device(t, b, ca, "acme/dev-1", "")
		named(t, b, "acme/dev-1", "d")
	})
}

func tokenError(t *testing.T, token paho.Token) error {
	t.Helper()
	require.True(t, token.WaitTimeout(testrun.Timeout))
	return token.Error()
}

func TestE2GlobalClientIDs(t *testing.T) {
	t.Parallel()
	o := attesting(broker.Options{GlobalClientIDs: true, Devices: broker.Zone{MaxQueue: 10}})
	t.Run("clean session 0 gets the session", func(t *testing.T) {
		t.Parallel()
		b := start(t, o)
		dev := named(t, b, "acme/dev-1", "d")
		bridge := lane(t, b, "bridge-p3", "bridge/#")
		publish(t, dev, own, 0, 3)
		for range 3 {
			bridge.next(t)
		}
		thief := subscribe(t, b, "bridge-p3", func(o *paho.ClientOptions) { o.SetUsername("globex/thief") })
		for i := range 3 {
			require.Equal(t, fmt.Sprint(i), string(thief.next(t).Payload()))
		}
		require.Equal(t, "globex/thief", session(t, b, "bridge-p3").Username)
		require.Equal(t, 200_000, session(t, b, "bridge-p3").Limits.MaxQueue, "the limit of where it was created")
	})
	t.Run("clean session leaves an empty one", func(t *testing.T) {
		t.Parallel()
		b := start(t, o)
		dev := named(t, b, "acme/dev-1", "d")
		bridge := lane(t, b, "bridge-p3", "bridge/#")
		require.True(t, b.Cut("bridge-p3"))
		publish(t, dev, own, 0, 5)
		require.Equal(t, 5, session(t, b, "bridge-p3").Queued)
		thief := connect(t, options(b.URL(), "bridge-p3").SetUsername("globex/thief").SetCleanSession(true))
		require.Zero(t, session(t, b, "bridge-p3").Pending)

		present := sessionPresent(t, options(b.URL(), "bridge-p3").SetUsername("bridge").SetPassword("secret").SetCleanSession(false))
		require.True(t, present, "the thief's session")
		require.Eventually(t, func() bool { return !thief.IsConnected() }, testrun.Timeout, time.Millisecond)
		bridge.Client = lane(t, b, "bridge-p3", "bridge/#").Client
		require.Equal(t, 10, session(t, b, "bridge-p3").Limits.MaxQueue, "of the devices' zone")
		require.True(t, b.Cut("bridge-p3"))
		publish(t, dev, own, 0, 12)
		require.Equal(t, int64(2), session(t, b, "bridge-p3").Dropped)
		require.Equal(t, int64(2), b.Counters().QueueFull)
	})
	t.Run("clientid_override", func(t *testing.T) {
		t.Parallel()
		o := o
		o.GlobalClientIDs = false
		b := start(t, o)
		bridge := lane(t, b, "bridge-p3", "bridge/#")
		thief := named(t, b, "globex/thief", "bridge-p3")
		require.True(t, thief.IsConnected())
		require.True(t, bridge.IsConnected())
		require.Equal(t, "globex/thief", session(t, b, "globex/thief/bridge-p3").Username)
	})
}

// sessionPresent connects and leaves the client connected.
func sessionPresent(t *testing.T, o *paho.ClientOptions) bool {
	t.Helper()
	c := paho.NewClient(o)
	token := c.Connect().(*paho.ConnectToken)
	wait(t, token)
	t.Cleanup(func() { c.Disconnect(0) })
	return token.SessionPresent()
}

func TestE4RateLimitBursts(t *testing.T) {
	t.Parallel()
	clock := newClock()
	var times []string
	b := start(t, attesting(broker.Options{
		MessagesRate: 10, Now: clock.now, Pause: clock.pause,
		Tamper: func(a *broker.Attestation) { times = append(times, a.Millis) },
	}))
	const messages, packet = 200, 60
	payload := strings.Repeat("x", packet-2-2-len(own)-2)
	conn := raw(t, b, "acme/dev-1")
	var burst []byte
	for i := range messages {
		burst = wire.AppendPublish(burst, wire.QoS1, own, uint16(i+1), []byte(payload))
	}
	_, err := conn.Write(burst)
	require.NoError(t, err)
	readAll(t, conn, 4*messages)

	sizes := map[string]int{}
	for _, at := range times {
		sizes[at]++
	}
	require.Len(t, times, messages)
	require.Less(t, len(sizes), messages/20, "lumps, not a stream: %v", sizes)
	require.GreaterOrEqual(t, clock.paused(), time.Duration(messages-4096/packet)*100*time.Millisecond)
}

func TestE6WillAttributes(t *testing.T) {
	t.Parallel()
	ca, config := authority(t)
	for _, anyCN := range []bool{false, true} {
		b := start(t, broker.Options{TLS: config, Attest: true, AnyCN: anyCN})
		bridge := subscribe(t, b, "bridge", nil, "bridge/#")
		watcher := subscribe(t, b, "watcher", nil, "tenant/#")
		certificate, err := ca.ClientConfig("acme/dev-1")
		require.NoError(t, err)
		connect(t, options(b.TLSURL(), "d").SetTLSConfig(certificate).SetWill("tenant/acme/device/dev-1/status", "gone", 1, false))
		require.True(t, b.Cut("acme/dev-1/d"))
		require.Equal(t, "gone", string(watcher.next(t).Payload()), "it is published")
		if anyCN {
			require.Contains(t, bridge.next(t).Topic(), fmt.Sprintf("/%X/tenant/acme/device/dev-1/status", "undefined"))
		} else {
			require.Equal(t, broker.Stats{Withheld: 1}, b.Stats(), "and not attested")
		}
	}
}

func TestE7ConnackLimits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		zone     broker.Zone
		inflight uint16
		packet   uint32
	}{
		"shipped zone":   {broker.Zone{}, 1000, 2 << 20},
		"EMQX's default": {broker.DefaultZone(), 32, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, broker.Options{Services: tc.zone})
			conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "tcp://"))
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 3, 'm', 'q', '5'})
			require.NoError(t, err)
			header := readAll(t, conn, 2)
			pk := mqtt5.Packet{ProtocolVersion: 5, FixedHeader: mqtt5.FixedHeader{Type: mqtt5.Connack}}
			require.NoError(t, pk.ConnackDecode(readAll(t, conn, int(header[1]))))
			require.Zero(t, pk.ReasonCode)
			require.Equal(t, tc.inflight, pk.Properties.ReceiveMaximum)
			require.Equal(t, tc.packet, pk.Properties.MaximumPacketSize)
		})
	}
}

func TestE7DefaultZoneOverflow(t *testing.T) {
	t.Parallel()
	b := start(t, attesting(broker.Options{Services: broker.DefaultZone()}))
	dev := named(t, b, "acme/dev-1", "d")
	bridge := lane(t, b, "bridge-p3", "bridge/#")
	publish(t, dev, own, 0, 32+1000+7)
	s := session(t, b, "bridge-p3")
	require.Equal(t, 1000, s.Queued)
	require.Equal(t, int64(7), s.Dropped)
	for i := range 32 + 1000 {
		m := bridge.next(t)
		want := i
		if i >= 32 {
			want += 7
		}
		require.Equal(t, fmt.Sprint(want), string(m.Payload()))
		m.Ack()
	}
}

func TestE8TakeoverRace(t *testing.T) {
	t.Parallel()
	for filter, lost := range map[string]int64{"bridge/#": 3, "$share/bridge-p3/bridge/#": 0} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			b := start(t, attesting(broker.Options{TakeoverRace: time.Hour}))
			lane(t, b, "bridge-p3", filter)
			again := lane(t, b, "bridge-p3")
			for i := range 3 {
				cn := fmt.Sprint("acme/dev-", i)
				publish(t, named(t, b, cn, "d"), fmt.Sprintf("tenant/acme/device/dev-%d/x", i), 0, 10)
			}
			for range 30 - lost {
				again.next(t).Ack()
			}
			require.Equal(t, lost, b.Counters().TakeoverLost, "one message per device")
			require.Zero(t, b.Dropped(), "in no counter of EMQX's")
		})
	}
}

// During a session's migration to $share, both filters are active: each message is delivered
// twice, and none is lost.
func TestE8MoveToShare(t *testing.T) {
	t.Parallel()
	b := start(t, attesting(broker.Options{}))
	dev := named(t, b, "acme/dev-1", "d")
	bridge := lane(t, b, "bridge-p3", "bridge/v1/d/#")
	wait(t, bridge.Subscribe("$share/bridge-p3/bridge/v1/d/#", 1, nil))
	publish(t, dev, own, 0, 1)
	require.Equal(t, bridge.next(t).Topic(), bridge.next(t).Topic())
	wait(t, bridge.Unsubscribe("bridge/v1/d/#"))
	publish(t, dev, own, 1, 2)
	require.Equal(t, "1", string(bridge.next(t).Payload()))
	require.Equal(t, 3, session(t, b, "bridge-p3").Pending)
}

func TestE8ShareStrategies(t *testing.T) {
	t.Parallel()
	for strategy, members := range map[broker.ShareStrategy]int{broker.HashClientID: 1, broker.RoundRobin: 2} {
		b := start(t, attesting(broker.Options{Share: strategy}))
		lane(t, b, "bridge-p3", "$share/g/bridge/#")
		lane(t, b, "forgotten", "$share/g/bridge/#")
		for i := range 4 {
			cn := fmt.Sprint("acme/dev-", i)
			publish(t, named(t, b, cn, "d"), fmt.Sprintf("tenant/acme/device/dev-%d/x", i), 0, 4)
		}
		got := 0
		for _, c := range b.Clients() {
			if c.Pending > 0 {
				got++
			}
		}
		require.Equal(t, members, got)
	}
}

func TestE9Kick(t *testing.T) {
	t.Parallel()
	b := start(t, attesting(broker.Options{}))
	dev := named(t, b, "acme/dev-1", "d")
	for _, attached := range []bool{true, false} {
		lane(t, b, "bridge-p3", "bridge/#")
		if !attached {
			require.True(t, b.Cut("bridge-p3"))
		}
		publish(t, dev, own, 0, 5)
		require.True(t, b.Kick("bridge-p3"))
		require.False(t, b.Kick("bridge-p3"))
		require.False(t, sessionPresent(t, options(b.URL(), "bridge-p3").SetUsername("bridge").SetPassword("secret").SetCleanSession(false)))
		require.Zero(t, session(t, b, "bridge-p3").Pending)
		before := b.Counters().NoSubscribers
		publish(t, dev, own, 0, 1)
		require.Equal(t, before+2, b.Counters().NoSubscribers, "the message and its attested copy")
		require.True(t, b.Kick("bridge-p3"))
	}
}

func TestE11ImpostorACL(t *testing.T) {
	t.Parallel()
	b := start(t, attesting(broker.Options{DeviceACL: true}))
	lost := make(chan error, 1)
	dev := connect(t, options(b.URL(), "d").SetUsername("globex/impostor").SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err }))
	dev.Publish(own, 1, false, "forged")
	require.Error(t, <-lost)
	require.Equal(t, broker.Stats{Denied: 1}, b.Stats(), "no rule sees it")
}

func TestInflightWindow(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{Services: broker.Zone{MaxInflight: 3}})
	device := connect(t, options(b.URL(), "device"))
	bridge := subscribe(t, b, "bridge", nil, "t/#")
	publish(t, device, "t/x", 0, 10)
	require.Equal(t, 7, session(t, b, "bridge").Queued)
	held := []paho.Message{bridge.next(t), bridge.next(t), bridge.next(t)}
	require.Empty(t, bridge.got)
	held[1].Ack()
	require.Equal(t, "3", string(bridge.next(t).Payload()))
	require.True(t, b.Cut("bridge"))
	again := subscribe(t, b, "bridge", nil)
	for _, want := range []string{"0", "2", "3"} {
		m := again.next(t)
		require.Equal(t, want, string(m.Payload()))
		require.True(t, m.Duplicate())
		m.Ack()
	}
	m := again.next(t)
	require.Equal(t, "4", string(m.Payload()))
	require.False(t, m.Duplicate())
}
