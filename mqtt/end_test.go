package mqtt

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/mqtt/dial"
)

func TestEndSession(t *testing.T) {
	t.Parallel()
	t.Run("session and its queue are deleted", testSessionAndItsQueueAreDeleted)
	t.Run("failure reports its cause", testFailureReportsItsCause)
}

func testSessionAndItsQueueAreDeleted(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{})
	filters := func(o *Options) { o.ClientID, o.Filters = "bridge-7", []string{"tenant/+/device/+/+"} }
	s := openAt(t, m.Addr, &recorder{ack: true}, filters)
	eventually(t, s, subscribed)
	s.Close()
	publishAll(t, m, 20) // queued for bridge-7

	end := Options{Servers: []dial.Server{{Address: m.Addr}}, ClientID: "bridge-7"}
	existed, err := EndSession(t.Context(), end)
	require.NoError(t, err)
	require.True(t, existed)
	existed, err = EndSession(t.Context(), end)
	require.NoError(t, err)
	require.False(t, existed, "and the question has left none behind")

	r := &recorder{ack: true}
	s = openAt(t, m.Addr, r, filters)
	eventually(t, s, subscribed)
	require.False(t, s.Status().SessionPresent)
	publishAll(t, m, 1)
	require.Eventually(t, func() bool { return len(r.deliveries()) == 1 }, testrun.Timeout, time.Millisecond)
}

func testFailureReportsItsCause(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{Username: "bridge", Password: "right"})
	_, err := EndSession(t.Context(), Options{Servers: []dial.Server{{Address: m.Addr}}, ClientID: "bridge-7", Login: as("bridge", "wrong")})
	require.ErrorIs(t, err, dial.ErrCredentials)
	m.Stop()
	_, err = EndSession(t.Context(), Options{Servers: []dial.Server{{Address: m.Addr}}, ClientID: "bridge-7"})
	require.ErrorIs(t, err, dial.ErrUnreachable)
	// A broker that accepts the connection and says nothing.
	b := listen(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = EndSession(ctx, Options{Servers: []dial.Server{{Address: b.addr}}, ClientID: "bridge-7"})
	require.ErrorIs(t, err, dial.ErrUnreachable)
}

func TestReach(t *testing.T) {
	t.Parallel()
	t.Run("flood instead of CONNACK ends connection", testFloodInsteadOfCONNACKEndsConnection)
	t.Run("broker must accept the user", testBrokerMustAcceptTheUser)
}

// Anything that is not a CONNACK is not read: a broker may send a quarter of a gigabyte in one
// packet, to a replica that tries it again and again.
func testFloodInsteadOfCONNACKEndsConnection(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	flooded := make(chan int, 1)
	go func() {
		p := b.accept()
		n, _ := p.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
		for zeros := make([]byte, 1<<20); n < 1<<28; {
			m, err := p.Write(zeros)
			n += m
			if err != nil {
				break
			}
		}
		flooded <- n
	}()
	err := Reach(t.Context(), Options{Servers: []dial.Server{{Address: b.addr}}, ClientID: "bridge-probe-1"})
	require.ErrorIs(t, err, ErrProtocol)
	require.Less(t, <-flooded, 32<<20, "bytes")
}

func testBrokerMustAcceptTheUser(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{Username: "bridge", Password: "right"})
	o := Options{Servers: []dial.Server{{Address: m.Addr}}, ClientID: "bridge-probe-1", Login: as("bridge", "right")}
	require.NoError(t, Reach(t.Context(), o))
	existed, err := EndSession(t.Context(), o)
	require.NoError(t, err)
	require.False(t, existed, "it leaves no session behind")
	o.Login = as("bridge", "wrong")
	require.ErrorIs(t, Reach(t.Context(), o), dial.ErrCredentials)
}
