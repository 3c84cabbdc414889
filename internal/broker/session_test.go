package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/testrun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func publish(t *testing.T, c paho.Client, topic string, from, to int) {
	t.Helper()
	tokens := make([]paho.Token, 0, to-from)
	for i := from; i < to; i++ {
		tokens = append(tokens, c.Publish(topic, 1, false, fmt.Sprint(i)))
	}
	for _, token := range tokens {
		wait(t, token)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	t.Run("resumed session redelivers in order with DUP", testResumedSessionRedeliversInOrderWithDUP)
	t.Run("resubscribe succeeds with packet id in flight", testResubscribeSucceedsWithPacketIdInFlight)
	t.Run("same client id causes session takeover", testSameClientIdCausesSessionTakeover)
	t.Run("clean session deletes previous session", testCleanSessionDeletesPreviousSession)
	t.Run("reconnects under load keep messages and order", testReconnectsUnderLoadKeepMessagesAndOrder)
	t.Run("share maps each publisher to one member", testShareMapsEachPublisherToOneMember)
	t.Run("offline queue drops oldest beyond limit", testOfflineQueueDropsOldestBeyondLimit)
	t.Run("retained message follows SUBACK", testRetainedMessageFollowsSUBACK)
}

func testResumedSessionRedeliversInOrderWithDUP(t *testing.T) {
	t.Parallel()
	const n = 300
	b := start(t, broker.Options{})
	device := connect(t, options(b.URL(), "device"))
	first := subscribe(t, b, "bridge", nil, "t/#")

	publish(t, device, "t/x", 0, n)
	ids := make([]uint16, n)
	for i := range n {
		m := first.next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Payload()))
		require.False(t, m.Duplicate())
		ids[i] = m.MessageID()
	}
	require.True(t, b.Cut("bridge"))
	publish(t, device, "t/x", n, 2*n) // while disconnected

	second := subscribe(t, b, "bridge", nil)
	for i := range 2 * n {
		m := second.next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Payload()))
		require.Equal(t, i < n, m.Duplicate(), "message %d", i)
		if i < n {
			require.Equal(t, ids[i], m.MessageID())
		}
		if i%3 == 0 {
			m.Ack()
		}
	}

	// The acknowledgements precede the kick on the wire; wait until they are processed.
	require.Eventually(t, func() bool { return b.Clients()[0].Pending == 2*n-2*n/3 }, testrun.Timeout, time.Millisecond)
	require.True(t, b.Cut("bridge"))
	publish(t, device, "t/x", 2*n, 3*n)
	third := subscribe(t, b, "bridge", nil)
	for i := range 3 * n {
		if i < 2*n && i%3 == 0 {
			continue
		}
		m := third.next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Payload()))
		require.Equal(t, i < 2*n, m.Duplicate(), "message %d", i)
		m.Ack()
	}
	require.Eventually(t, func() bool { return b.Clients()[0].Pending == 0 }, testrun.Timeout, time.Millisecond)
	require.Zero(t, b.Dropped())
}

func testResubscribeSucceedsWithPacketIdInFlight(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	device := connect(t, options(b.URL(), "device"))
	subscribe(t, b, "bridge", nil, "t/#")
	publish(t, device, "t/x", 0, 10)
	require.True(t, b.Cut("bridge"))
	// paho starts at packet id 1, like the broker; subscribe checks the SUBACK.
	again := subscribe(t, b, "bridge", nil, "t/#", "t/+")
	require.Equal(t, "0", string(again.next(t).Payload()))
}

func testSameClientIdCausesSessionTakeover(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	device := connect(t, options(b.URL(), "device"))
	lost := make(chan error, 1)
	first := subscribe(t, b, "bridge", func(o *paho.ClientOptions) {
		o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
	}, "t/#")
	publish(t, device, "t/x", 0, 3)
	for range 3 {
		first.next(t)
	}
	second := subscribe(t, b, "bridge", nil)
	require.Error(t, <-lost)
	for i := range 3 {
		m := second.next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Payload()))
		require.False(t, m.Duplicate(), "EMQX 5.8.9 sends these without DUP")
	}
}

func testCleanSessionDeletesPreviousSession(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	device := connect(t, options(b.URL(), "device"))
	subscribe(t, b, "bridge", nil, "t/#")
	publish(t, device, "t/x", 0, 3)
	connect(t, options(b.URL(), "bridge").SetCleanSession(true)).Disconnect(0)
	require.Eventually(t, func() bool { return len(b.Clients()) == 1 }, testrun.Timeout, time.Millisecond)
	require.False(t, b.Cut("bridge"))
}

// Under full load, a subscriber's connection breaks repeatedly. It still receives every message
// acknowledged to a device, in each device's order.
func testReconnectsUnderLoadKeepMessagesAndOrder(t *testing.T) {
	t.Parallel()
	const devices, each, kicks = 4, 5000, 25
	b := start(t, broker.Options{Attest: true, DeviceUsernames: true, Username: "bridge"})

	var mu sync.Mutex
	last := make(map[string]int) // highest number by topic
	distinct, generation := 0, 0
	finished := make(chan struct{})
	receive := func(mine int, m paho.Message) {
		levels := strings.SplitN(m.Topic(), "/", 7)
		var number int
		_, err := fmt.Sscan(string(m.Payload()), &number)
		mu.Lock()
		defer mu.Unlock()
		if mine != generation {
			return // still in paho's queue when its connection broke
		}
		switch seen, ok := last[levels[6]]; {
		case err != nil:
			t.Errorf("payload %q: %v", m.Payload(), err)
		case !ok && number == 0, ok && number == seen+1:
			last[levels[6]] = number
			if distinct++; distinct == devices*each {
				close(finished)
			}
		case ok && number <= seen && m.Duplicate(): // redelivered
		default:
			t.Errorf("%s: %d (dup %t) after %d", levels[6], number, m.Duplicate(), seen)
		}
		m.Ack()
	}
	reconnect := func() {
		mu.Lock()
		generation++
		mine := generation
		mu.Unlock()
		subscribe(t, b, "bridge", func(o *paho.ClientOptions) {
			o.SetUsername("bridge").SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { receive(mine, m) })
		}, "bridge/#")
	}
	reconnect()

	var load sync.WaitGroup
	for d := range devices {
		cn := fmt.Sprintf("acme/dev-%d", d)
		c := connect(t, options(b.URL(), cn).SetUsername(cn))
		load.Go(func() {
			publish(t, c, fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", d), 0, each)
		})
	}
	for range kicks {
		require.True(t, b.Cut("bridge"))
		reconnect()
	}
	load.Wait()
	select {
	case <-finished:
	case <-time.After(testrun.Timeout):
		mu.Lock()
		defer mu.Unlock()
		require.FailNow(t, "messages are missing", "%d of %d, %v", distinct, devices*each, last)
	}
	require.Zero(t, b.Dropped())
	require.Equal(t, broker.Stats{Attested: devices * each}, b.Stats())
}

func testShareMapsEachPublisherToOneMember(t *testing.T) {
	t.Parallel()
	const publishers, each = 8, 20
	b := start(t, broker.Options{})
	members := []*subscriber{
		subscribe(t, b, "bridge-0", nil, "$share/g/t/#"),
		subscribe(t, b, "bridge-1", nil, "$share/g/t/#"),
	}
	for p := range publishers {
		publish(t, connect(t, options(b.URL(), fmt.Sprint("p", p))), fmt.Sprint("t/", p), 0, each)
	}
	home := make(map[string]int)
	count := make(map[string]int)
	for range publishers * each {
		var m paho.Message
		var member int
		select {
		case m = <-members[0].got:
		case m = <-members[1].got:
			member = 1
		case <-time.After(testrun.Timeout):
			require.FailNow(t, "messages are missing", "%v", count)
		}
		require.Equal(t, fmt.Sprint(count[m.Topic()]), string(m.Payload()))
		if count[m.Topic()]++; count[m.Topic()] > 1 {
			require.Equal(t, home[m.Topic()], member)
		}
		home[m.Topic()] = member
	}
}

func testOfflineQueueDropsOldestBeyondLimit(t *testing.T) {
	t.Parallel()
	const limit, beyond = 500, 10
	b := start(t, broker.Options{Services: broker.Zone{MaxQueue: limit}})
	subscribe(t, b, "bridge", nil, "t/#").Disconnect(0)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(b.Clients(), func(c broker.Client) bool { return c.ID == "bridge" && !c.Connected })
	}, testrun.Timeout, time.Millisecond)
	device := connect(t, options(b.URL(), "device"))
	publish(t, device, "t/x", 0, limit+beyond)
	require.Eventually(t, func() bool { return b.Dropped() == beyond }, testrun.Timeout, time.Millisecond)

	again := subscribe(t, b, "bridge", nil)
	for i := range limit {
		m := again.next(t)
		require.Equal(t, fmt.Sprint(beyond+i), string(m.Payload()), "the oldest are dropped")
		require.False(t, m.Duplicate())
		m.Ack()
	}
}

func TestBroker(t *testing.T) {
	t.Parallel()
	t.Run("client list is accurate and close is idempotent", testClientListIsAccurateAndCloseIsIdempotent)
	t.Run("listener with address in use is reported", testListenerWithAddressInUseIsReported)
}

func testClientListIsAccurateAndCloseIsIdempotent(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{DeviceUsernames: true})
	require.NoError(t, err)
	lost := make(chan error, 2)
	onLost := func(_ paho.Client, err error) { lost <- err }
	connect(t, options(b.URL(), "a").SetCleanSession(false).SetUsername("acme/dev-1").SetConnectionLostHandler(onLost))
	connect(t, options(b.URL(), "b").SetConnectionLostHandler(onLost))
	clients := b.Clients()
	for i := range clients {
		clients[i].Limits = broker.Zone{}
	}
	const id = "acme/dev-1/a"
	require.Equal(t, []broker.Client{
		{ID: id, Username: "acme/dev-1", Device: true, Connected: true},
		{ID: "b", Connected: true},
	}, clients)
	require.True(t, b.Cut(id))
	require.False(t, b.Cut(id))
	require.False(t, b.Cut("nobody"))
	require.Error(t, <-lost)
	require.False(t, b.Clients()[0].Connected)
	require.Empty(t, b.TLSURL())

	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	require.Error(t, <-lost)
	_, err = try(options(b.URL(), "c"))
	require.Error(t, err)
}

func testListenerWithAddressInUseIsReported(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	_, config := authority(t)
	taken := strings.TrimPrefix(b.URL(), "tcp://")
	_, err := broker.Open(broker.Options{Listen: taken})
	require.ErrorContains(t, err, "open plain listener")
	_, err = broker.Open(broker.Options{TLS: config, ListenTLS: taken})
	require.ErrorContains(t, err, "open device listener")
}

func testRetainedMessageFollowsSUBACK(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Options{})
	device := connect(t, options(b.URL(), "device"))
	wait(t, device.Publish("t/x/y", 1, true, "kept"))
	m := subscribe(t, b, "bridge", nil, "t/+/#").next(t)
	require.Equal(t, "kept", string(m.Payload()))
	require.True(t, m.Retained())
	wait(t, device.Publish("t/x/y", 1, true, ""))
	subscribe(t, b, "other", nil, "t/#")
	wait(t, device.Publish("t/z", 1, false, "live"))
	require.Empty(t, b.Counters().NoSubscribers-1, "the first had none")
}
