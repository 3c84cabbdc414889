package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/mqtt/dial"
)

// The tests of this file run against real mosquitto processes.

func openAt(t *testing.T, addr string, r *recorder, change ...func(*Options)) *Session {
	t.Helper()
	return (&scripted{t: t, addr: addr}).open(r, change...)
}

// publishAll publishes at QoS 1, one after the other, and returns when the broker
// has acknowledged all.
func publishAll(t *testing.T, m *peers.MosquittoProcess, n int) {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(m.URL).SetClientID("device").SetProtocolVersion(4))
	token := c.Connect()
	require.True(t, token.WaitTimeout(testrun.Timeout))
	require.NoError(t, token.Error())
	defer c.Disconnect(250)
	for i := range n {
		token := c.Publish("tenant/acme/device/d1/telemetry", 1, false, fmt.Sprint(i))
		require.True(t, token.WaitTimeout(testrun.Timeout))
		require.NoError(t, token.Error())
	}
}

func awaitDeliveries(t *testing.T, r *recorder, n int) []event {
	t.Helper()
	require.Eventually(t, func() bool { return len(r.deliveries()) >= n }, testrun.Timeout, time.Millisecond,
		"%d deliveries", n)
	return r.deliveries()
}

func payloads(events []event) (all []string) {
	for _, e := range events {
		all = append(all, string(e.Payload))
	}
	return all
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestMosquitto(t *testing.T) {
	t.Parallel()
	t.Run("unacked messages are redelivered", testUnackedMessagesAreRedelivered)
	t.Run("coalesced PUBACKs are accepted", testCoalescedPUBACKsAreAccepted)
	t.Run("messages after Drain stay queued", testMessagesAfterDrainStayQueued)
	t.Run("last PUBACKs arrive under load", testLastPUBACKsArriveUnderLoad)
	t.Run("lost session is counted and logged", testLostSessionIsCountedAndLogged)
	t.Run("wrong password is reported", testWrongPasswordIsReported)
	t.Run("sessions with one client id report takeover", testSessionsWithOneClientIdReportTakeover)
	t.Run("frozen broker is dropped and reconnected", testFrozenBrokerIsDroppedAndReconnected)
	t.Run("2.0.11 loses shared subscription on restart", test2011LosesSharedSubscriptionOnRestart)
}

// mosquittoWith returns a mosquitto that has been sent messages, and the session that they go to.
func mosquittoWith(t *testing.T, inFlight, messages int) (*peers.MosquittoProcess, *recorder, *Session) {
	t.Helper()
	m := peers.Mosquitto(t, peers.MosquittoOptions{MaxInflight: inFlight})
	r := &recorder{}
	s := openAt(t, m.Addr, r)
	eventually(t, s, subscribed)
	publishAll(t, m, messages)
	return m, r, s
}

// closeAt closes a session, which writes its PUBACKs, and waits until mosquitto has seen that.
func closeAt(t *testing.T, m *peers.MosquittoProcess, s *Session) {
	t.Helper()
	at := len(m.Log().String())
	s.Close()
	m.Log().Await(t, at, "Client bridge-0 disconnected.")
}

// ackAll acknowledges what has been delivered and returns it.
func ackAll(r *recorder) []event {
	all := r.deliveries()
	for _, d := range all {
		d.conn.Ack(d.PacketID)
	}
	return all
}

func testUnackedMessagesAreRedelivered(t *testing.T) {
	t.Parallel()
	m, r, s := mosquittoWith(t, 50, 70)
	for _, d := range awaitDeliveries(t, r, 50) {
		require.False(t, d.Dup)
		if d.PacketID <= 20 {
			d.conn.Ack(d.PacketID)
		}
	}
	r.deliveries()[0].conn.Flush()
	// Twenty more come once mosquitto has taken twenty PUBACKs.
	first := awaitDeliveries(t, r, 70)
	require.Equal(t, numbers(0, 70), payloads(first))
	m.Kick("bridge-0")
	all := awaitDeliveries(t, r, 120)
	require.Equal(t, numbers(20, 70), payloads(all[70:]), "all the others again, in order")
	for i, d := range all[70:] {
		require.True(t, d.Dup)
		require.Equal(t, first[20+i].PacketID, d.PacketID)
		require.NotSame(t, first[0].conn, d.conn)
		first[20+i].conn.Ack(first[20+i].PacketID) // stale: says nothing to the broker
		d.conn.Ack(d.PacketID)
	}
	eventually(t, s, func(st Status) bool { return st.Connects == 2 && st.SessionPresent && st.SessionsLost == 0 })
	closeAt(t, m, s)

	again := &recorder{}
	eventually(t, openAt(t, m.Addr, again), subscribed)
	publishAll(t, m, 1)
	require.Equal(t, []string{"0"}, payloads(awaitDeliveries(t, again, 1)), "nothing of before")
}

func testCoalescedPUBACKsAreAccepted(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{MaxInflight: 300})
	r := &recorder{ack: true}
	s := openAt(t, m.Addr, r, func(o *Options) { o.ClientID = "bridge-acks" })
	eventually(t, s, subscribed)
	s.Close()
	publishAll(t, m, 2000) // queued: they come as fast as PUBACKs let them
	s = openAt(t, m.Addr, r, func(o *Options) { o.ClientID = "bridge-acks" })
	require.Equal(t, numbers(0, 2000), payloads(awaitDeliveries(t, r, 2000)))
	eventually(t, s, subscribed)
	require.Equal(t, uint64(1), s.Status().Connects)
	s.Close()
	require.NotContains(t, m.Log().String(), "rror")
}

func testMessagesAfterDrainStayQueued(t *testing.T) {
	t.Parallel()
	m, r, s := mosquittoWith(t, 100, 3)
	awaitDeliveries(t, r, 3)
	s.Drain()
	publishAll(t, m, 5)
	ackAll(r)
	closeAt(t, m, s)
	require.Len(t, r.deliveries(), 3)

	next := &recorder{ack: true}
	openAt(t, m.Addr, next)
	require.Equal(t, numbers(0, 5), payloads(awaitDeliveries(t, next, 5)))
	require.True(t, next.all()[0].present)
}

func testLastPUBACKsArriveUnderLoad(t *testing.T) {
	t.Parallel()
	m, r, s := mosquittoWith(t, 100, 300)
	awaitDeliveries(t, r, 100)
	s.Drain()
	given := ackAll(r)
	closeAt(t, m, s) // while mosquitto sends the next ones

	next := &recorder{}
	openAt(t, m.Addr, next)
	require.Equal(t, fmt.Sprint(len(given)), payloads(awaitDeliveries(t, next, 1))[0], "nothing acknowledged comes again")
}

func testLostSessionIsCountedAndLogged(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{})
	log := &lines{}
	s := openAt(t, m.Addr, &recorder{}, log.into)
	eventually(t, s, subscribed)
	m.Kick("bridge-0")
	eventually(t, s, func(st Status) bool { return st.Subscribed && st.Connects == 2 })
	require.True(t, s.Status().SessionPresent)
	require.Zero(t, s.Status().SessionsLost)
	m.Restart() // nothing was kept on disk
	eventually(t, s, func(st Status) bool { return st.Subscribed && st.Connects == 3 })
	require.False(t, s.Status().SessionPresent)
	require.Equal(t, uint64(1), s.Status().SessionsLost)
	require.Equal(t, 1, log.count("the broker has lost the session"))
}

func testWrongPasswordIsReported(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{Username: "bridge", Password: "right"})
	for _, password := range []string{"wrong", ""} {
		s := openAt(t, m.Addr, &recorder{}, func(o *Options) {
			o.ClientID, o.Login = "bridge-"+password, as("bridge", password)
		})
		eventually(t, s, func(st Status) bool { return errors.Is(st.Err, dial.ErrCredentials) })
	}
	s := openAt(t, m.Addr, &recorder{}, func(o *Options) { o.Login = as("bridge", "right") })
	eventually(t, s, subscribed)
}

func testSessionsWithOneClientIdReportTakeover(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{})
	a, b := openAt(t, m.Addr, &recorder{}), openAt(t, m.Addr, &recorder{})
	var named [2]bool
	require.Eventually(t, func() bool {
		for i, s := range []*Session{a, b} {
			named[i] = named[i] || s.Status().Takeover
		}
		return named[0] && named[1]
	}, testrun.Timeout, time.Millisecond)
	require.Less(t, a.Status().Connects+b.Status().Connects, uint64(30), "not fought at full speed")
}

func testFrozenBrokerIsDroppedAndReconnected(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{})
	r := &recorder{ack: true}
	log := &lines{}
	s := openAt(t, m.Addr, r, log.into, func(o *Options) { o.KeepAlive = time.Second })
	eventually(t, s, subscribed)
	m.Freeze()
	eventually(t, s, func(st Status) bool { return !st.Connected })
	m.Thaw()
	eventually(t, s, func(st Status) bool { return st.Subscribed && st.SessionPresent })
	require.Equal(t, 1, log.count("mqtt connection lost"))
	require.Equal(t, 1, log.count("pingresp not received"))
	publishAll(t, m, 3)
	require.Equal(t, numbers(0, 3), payloads(awaitDeliveries(t, r, 3)))
}

func TestMosquittoWithMutualTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := authority(t), authority(t)
	m := mosquittoTLS(t, ca)
	good, err := ca.ClientConfig("bridge")
	require.NoError(t, err)
	s := openAt(t, m.Addr, &recorder{}, func(o *Options) { withTLS(o, good) })
	eventually(t, s, subscribed)

	without := good.Clone()
	without.Certificates = nil
	s = openAt(t, m.Addr, &recorder{}, func(o *Options) { o.ClientID = "without"; withTLS(o, without) })
	// The alert, or where the close overtakes it, the close.
	eventually(t, s, func(st Status) bool {
		return errors.Is(st.Err, dial.ErrCredentials) || errors.Is(st.Err, dial.ErrRefused)
	})
	s = openAt(t, m.Addr, &recorder{}, func(o *Options) {
		o.ClientID = "untrusting"
		withTLS(o, &tls.Config{RootCAs: stranger.Pool(), MinVersion: tls.VersionTLS12})
	})
	eventually(t, s, func(st Status) bool { return strings.Contains(st.Problem, "has a certificate ") })
}

// mosquittoTLS is one with a certificate of ca that wants one of its clients.
func mosquittoTLS(t *testing.T, ca *pki.Authority) *peers.MosquittoProcess {
	t.Helper()
	dir := t.TempDir()
	caFile, err := ca.WriteCA(dir)
	require.NoError(t, err)
	cert, err := ca.Server()
	require.NoError(t, err)
	files, err := pki.Write(dir, "server", cert)
	require.NoError(t, err)
	return peers.Mosquitto(t, peers.MosquittoOptions{CAFile: caFile, CertFile: files.Cert, KeyFile: files.Key})
}

// mosquitto 2.0.11 restores the session, and says so, without its shared subscription.
func test2011LosesSharedSubscriptionOnRestart(t *testing.T) {
	t.Parallel()
	m := peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true})
	if !strings.Contains(m.Log().String(), "mosquitto version 2.0.11 ") {
		t.Skip("not mosquitto 2.0.11")
	}
	for filter, kept := range map[string]int{"tenant/+/device/+/+": 2, "$share/lane/tenant/+/device/+/+": 0} {
		r := &recorder{ack: true}
		change := func(o *Options) { o.ClientID, o.Filters = fmt.Sprint("bridge-", kept), []string{filter} }
		s := openAt(t, m.Addr, r, change)
		eventually(t, s, subscribed)
		s.Close()
		m.Restart()
		publishAll(t, m, 2)
		s = openAt(t, m.Addr, r, change)
		eventually(t, s, subscribed)
		require.True(t, s.Status().SessionPresent)
		publishAll(t, m, 3)
		require.Equal(t, append(numbers(0, kept), numbers(0, 3)...), payloads(awaitDeliveries(t, r, kept+3)), filter)
		s.Close()
	}
}
