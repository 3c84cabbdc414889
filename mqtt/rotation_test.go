package mqtt

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/mqtt/dial"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	a, b, c := dial.Server{Address: "a:1"}, dial.Server{Address: "b:1"}, dial.Server{Address: "c:1"}
	failed := func(s dial.Server) error { return &dial.Problem{Cause: dial.CauseRefused, URL: s.URL()} }
	turn := serverRotation{servers: []dial.Server{a, b, c}}
	require.Equal(t, a, turn.server())
	require.EqualError(t, turn.note(failed(a)), "broker at mqtt://a:1 cannot be reached")
	require.False(t, turn.advance(failed(a)), "the next one immediately")
	require.Equal(t, b, turn.server())
	require.EqualError(t, turn.note(failed(b)), "broker at mqtt://a:1 cannot be reached; broker at mqtt://b:1 cannot be reached")
	require.False(t, turn.advance(failed(b)))
	err := turn.note(failed(c))
	require.True(t, turn.advance(err), "a pause after each round")
	require.ErrorIs(t, err, dial.ErrUnreachable)
	require.Equal(t, a, turn.server())
	require.Equal(t, err.Error(), turn.note(failed(a)).Error(), "the same text in each round")

	turn.advance(failed(a))
	turn.connected()
	require.True(t, turn.advance(ErrClosedByBroker))
	require.Equal(t, b, turn.server(), "the one that worked is first")
	turn.connected()
	turn.advance(ErrSubscriptionRefused)
	require.Equal(t, c, turn.server())
	one := serverRotation{servers: []dial.Server{a}}
	problem := failed(a)
	require.True(t, errors.Is(one.note(problem), problem))
	require.True(t, one.advance(problem))
	require.Equal(t, a, one.server())
}

// TestSeveralBrokers places the session at the broker whose listener accepts it.
func TestSeveralBrokers(t *testing.T) {
	t.Parallel()
	first, second := peers.Mosquitto(t, peers.MosquittoOptions{}), peers.Mosquitto(t, peers.MosquittoOptions{})
	first.Stop()
	log := &lines{}
	s := openAt(t, first.Addr, &recorder{ack: true}, log.into, func(o *Options) {
		o.Servers = append(o.Servers, dial.Server{Address: second.Addr})
	})
	at := func(m *peers.MosquittoProcess) func(Status) bool {
		return func(st Status) bool { return st.Subscribed && st.Broker == "mqtt://"+m.Addr }
	}
	eventually(t, s, at(second))
	first.Start()
	second.Restart()
	eventually(t, s, subscribed)
	second.Stop()
	eventually(t, s, at(first))
	first.Stop()
	eventually(t, s, func(st Status) bool {
		return st.Problem == "broker at mqtt://"+first.Addr+" cannot be reached: dial tcp "+first.Addr+": connect: connection refused; broker at mqtt://"+
			second.Addr+" cannot be reached: dial tcp "+second.Addr+": connect: connection refused"
	})
	second.Start()
	eventually(t, s, at(second))
	existed, err := EndSession(t.Context(), Options{Servers: []dial.Server{{Address: first.Addr}, {Address: second.Addr}}, ClientID: "bridge-0"})
	require.NoError(t, err)
	require.True(t, existed)
}

// What waits in the session at one broker is delivered when the bridge comes back to it: behind what
// another broker was given later.
func TestSeveralBrokersLateMessages(t *testing.T) {
	t.Parallel()
	first, second := peers.Mosquitto(t, peers.MosquittoOptions{}), peers.Mosquitto(t, peers.MosquittoOptions{})
	proxy, r := peers.Proxy(t, first.Addr), &recorder{ack: true}
	s := openAt(t, proxy.Addr, r, func(o *Options) {
		o.Servers = append(o.Servers, dial.Server{Address: second.Addr})
	})
	at := func(address string) func(Status) bool {
		return func(st Status) bool { return st.Subscribed && st.Broker == "mqtt://"+address }
	}
	eventually(t, s, at(proxy.Addr))
	proxy.Down()
	eventually(t, s, at(second.Addr))
	publishAll(t, first, 3)
	publishAll(t, second, 1)
	require.Equal(t, []string{"0"}, payloads(awaitDeliveries(t, r, 1)))
	proxy.Up()
	second.Stop()
	require.Equal(t, []string{"0", "0", "1", "2"}, payloads(awaitDeliveries(t, r, 4)))
	eventually(t, s, func(st Status) bool { return st.SessionPresent && st.Broker == "mqtt://"+proxy.Addr })
}
