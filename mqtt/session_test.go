package mqtt

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/testrun"
)

// eventually waits until the session's status is as ok wants it.
func eventually(t testing.TB, s *Session, ok func(Status) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return ok(s.Status()) }, testrun.Timeout, time.Millisecond,
		"it stays at %+v", s.Status())
}

func subscribed(st Status) bool { return st.Subscribed }

func TestSession(t *testing.T) {
	t.Parallel()
	t.Run("connect to disconnect", testConnectToDisconnect)
	t.Run("PUBACKs are sent before DISCONNECT", testPUBACKsAreSentBeforeDISCONNECT)
	t.Run("last PUBACKs reach broker that keeps sending", testLastPUBACKsReachBrokerThatKeepsSending)
	t.Run("lost session is counted and resumed one is not", testLostSessionIsCountedAndResumedOneIsNot)
	t.Run("acks of old connection never reach new one", testAcksOfOldConnectionNeverReachNewOne)
	t.Run("lost session of earlier process is counted", testLostSessionOfEarlierProcessIsCounted)
}

func testConnectToDisconnect(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{ack: true}
	filters := []string{"tenant/+/device/+/+", "tenant/+/device/+/shadow/reported", "$share/bridge/x/#"}
	s := b.open(r, func(o *Options) {
		o.Filters, o.Login, o.KeepAlive = filters, as("bridge", "s3cret"), 17*time.Second
	})
	p := b.accept()
	c := p.connack(false)
	require.Equal(t, byte(4), c.ProtocolVersion)
	require.Equal(t, "MQTT", c.ProtocolName)
	require.False(t, c.CleanSession)
	require.False(t, c.WillFlag)
	require.Equal(t, "bridge-0", c.ClientIdentifier)
	require.Equal(t, "bridge", c.Username)
	require.Equal(t, "s3cret", string(c.Password))
	require.Equal(t, uint16(17), c.Keepalive)
	sub := p.grant(func(string) byte { return 1 })
	require.ElementsMatch(t, filters, sub.Topics)
	require.Equal(t, []byte{1, 1, 1}, sub.Qoss)
	eventually(t, s, subscribed)
	st := s.Status()
	require.Equal(t, filters, st.Granted)
	require.Empty(t, st.Refused)
	require.Empty(t, st.Problem)
	require.True(t, st.Connected)
	require.False(t, st.SessionPresent)
	require.Equal(t, uint64(1), st.Connects)

	p.send(publish("a/d", 0, nil), publish("a/b", 3, []byte("x")), publish("a/c", 1, nil))
	require.Equal(t, uint16(3), p.read().Details().MessageID)
	require.Equal(t, uint16(1), p.read().Details().MessageID)
	done := make(chan []packets.ControlPacket)
	go func() { done <- p.rest() }()
	s.Close()
	rest := <-done
	require.Len(t, rest, 1, "no UNSUBSCRIBE: the broker goes on collecting")
	require.IsType(t, &packets.DisconnectPacket{}, rest[0])
	require.Len(t, r.deliveries(), 3)
	events := r.all()
	require.Equal(t, "disconnected", events[len(events)-1].kind)
	require.False(t, s.Status().Connected)
	require.Equal(t, "closed", s.Status().Problem)
	s.Close() // again does no harm
}

func testPUBACKsAreSentBeforeDISCONNECT(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.connected(false)
	p.send(publish("a", 1, nil), publish("a", 2, nil), publish("a", 3, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 3 }, testrun.Timeout, time.Millisecond)
	s.Drain()
	p.send(publish("a", 4, nil), pong)
	for _, d := range r.deliveries() {
		d.conn.Ack(d.PacketID)
	}
	done := make(chan []packets.ControlPacket)
	go func() { done <- p.rest() }()
	s.Close()
	rest := <-done
	require.Len(t, rest, 4)
	for i := range 3 {
		require.Equal(t, uint16(i+1), rest[i].Details().MessageID)
	}
	require.IsType(t, &packets.DisconnectPacket{}, rest[3])
	require.Len(t, r.deliveries(), 3, "what comes after Drain stays with the broker")
}

func testLastPUBACKsReachBrokerThatKeepsSending(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.connected(false)
	const window = 100
	for id := range uint16(window) {
		p.send(publish("a", id+1, nil))
	}
	require.Eventually(t, func() bool { return len(r.deliveries()) == window }, testrun.Timeout, time.Millisecond)
	s.Drain()
	for _, d := range r.deliveries() {
		d.conn.Ack(d.PacketID)
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	// Each PUBACK has the broker send the next message. Into a closed socket,
	// that would be answered with a reset, and the rest be lost.
	for n := range uint16(window) {
		require.Equal(t, n+1, p.read().Details().MessageID)
		p.send(publish("a", window+n+1, pattern(1000)))
	}
	require.IsType(t, &packets.DisconnectPacket{}, p.read())
	p.Close()
	<-closed
	require.Len(t, r.deliveries(), window)
}

func testLostSessionIsCountedAndResumedOneIsNot(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	log := &lines{}
	s := b.open(r, log.into)
	for n, present := range []bool{false, true, false, true} {
		p := b.connected(present)
		eventually(t, s, subscribed)
		st := s.Status()
		require.Equal(t, present, st.SessionPresent)
		require.Equal(t, uint64(n+1), st.Connects)
		require.Equal(t, uint64(n/2), st.SessionsLost, "the first connection has none to lose")
		p.Close()
	}
	require.Equal(t, 1, log.count("the broker has lost the session"))
	s.Close()
	var kinds []string
	var present []bool
	for _, e := range r.all() {
		kinds = append(kinds, e.kind)
		if e.kind == "connected" {
			present = append(present, e.present)
		}
	}
	require.Equal(t, slices.Repeat([]string{"connected", "disconnected"}, 4), kinds)
	require.Equal(t, []bool{false, true, false, true}, present)
}

func testAcksOfOldConnectionNeverReachNewOne(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	first := b.connected(false)
	first.send(publish("a", 1, nil), publish("a", 2, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 2 }, testrun.Timeout, time.Millisecond)
	old := r.deliveries()
	old[0].conn.Ack(1) // appended, not written: it dies with the connection
	first.reset()
	second := b.connected(true)
	redelivered := publish("a", 1, nil)
	redelivered[0] |= 8
	second.send(redelivered)
	require.Eventually(t, func() bool { return len(r.deliveries()) == 3 }, testrun.Timeout, time.Millisecond)
	for range 256 {
		old[1].conn.Ack(2)
	}
	old[1].conn.Flush()
	now := r.deliveries()[2]
	require.True(t, now.Dup)
	require.NotSame(t, old[0].conn, now.conn)
	now.conn.Ack(1)
	now.conn.Flush()
	done := make(chan []packets.ControlPacket)
	go func() { done <- second.rest() }()
	s.Close()
	rest := <-done
	require.Len(t, rest, 2)
	require.Equal(t, uint16(1), rest[0].Details().MessageID)
	require.IsType(t, &packets.DisconnectPacket{}, rest[1])
}

func TestSessionCloseStates(t *testing.T) {
	t.Parallel()
	for name, reach := range map[string]func(*scripted, *Session){
		"immediately":      func(*scripted, *Session) {},
		"dialled":          func(b *scripted, _ *Session) { b.accept() },
		"awaiting CONNACK": func(b *scripted, _ *Session) { b.accept().read() },
		"connected":        func(b *scripted, _ *Session) { b.accept().connack(false) },
		"awaiting SUBACK": func(b *scripted, _ *Session) {
			p := b.accept()
			p.connack(false)
			p.read()
		},
		"subscribed": func(b *scripted, s *Session) {
			b.connected(false)
			eventually(b.t, s, subscribed)
		},
		"refused filter": func(b *scripted, s *Session) {
			p := b.accept()
			p.connack(false)
			p.grant(func(string) byte { return 0x80 })
			eventually(b.t, s, func(st Status) bool { return len(st.Refused) > 0 })
		},
		"connection lost": func(b *scripted, _ *Session) { b.connected(false).Close() },
		"backing off": func(b *scripted, s *Session) {
			b.accept().Close()
			eventually(b.t, s, func(st Status) bool { return strings.Contains(st.Problem, "instead of answering") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, nil)
			r := &recorder{}
			s := b.open(r)
			reach(b, s)
			var both sync.WaitGroup
			both.Go(s.Close)
			both.Go(s.Close)
			both.Wait()
			require.False(t, s.Status().Connected)
			events := r.all()
			require.Zero(t, len(events)%2, "every Connected has its Disconnected")
		})
	}
}

func testLostSessionOfEarlierProcessIsCounted(t *testing.T) {
	t.Parallel()
	for had, want := range map[bool]uint64{false: 0, true: 1} {
		b := listen(t, nil)
		s := b.open(&recorder{}, func(o *Options) { o.HadSession = had })
		b.connected(false)
		eventually(t, s, subscribed)
		require.Equal(t, want, s.Status().SessionsLost)
	}
}

// lines collects a log.
type lines struct{ child.Log }

// count is in how many lines text occurs.
func (l *lines) count(text string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *lines) into(o *Options) { o.Log = zerolog.New(l) }
