package mqtt

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// eventually waits until the session's status is as ok wants it.
func eventually(t testing.TB, s *Session, ok func(Status) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return ok(s.Status()) }, patience, time.Millisecond,
		"it stays at %+v", s.Status())
}

func subscribed(st Status) bool { return st.Subscribed }

func TestASessionFromConnectToDisconnect(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{ack: true}
	filters := []string{"tenant/+/device/+/+", "tenant/+/device/+/shadow/reported", "$share/bridge/x/#"}
	s := b.open(r, func(o *Options) {
		o.Filters, o.Username, o.Password, o.KeepAlive = filters, "bridge", "s3cret", 17*time.Second
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

func TestWhatWasAcknowledgedGoesOutBeforeDisconnect(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.connected(false)
	p.send(publish("a", 1, nil), publish("a", 2, nil), publish("a", 3, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 3 }, patience, time.Millisecond)
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

func TestTheLastPubacksReachABrokerThatGoesOnSending(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.connected(false)
	const window = 100
	for id := range uint16(window) {
		p.send(publish("a", id+1, nil))
	}
	require.Eventually(t, func() bool { return len(r.deliveries()) == window }, patience, time.Millisecond)
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

func TestALostSessionIsCountedAndAKeptOneIsNot(t *testing.T) {
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

func TestARefusedFilterIsNamedAndTheOthersWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code byte
		text string
	}{
		"refused":       {0x80, "bad/+ (return code 0x80: not allowed for this user, see the broker's ACL)"},
		"only at QoS 0": {0, "bad/+ (granted at QoS 0 only: messages could be lost)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, nil)
			log := &lines{}
			r := &recorder{}
			s := b.open(r, log.into, func(o *Options) { o.Filters = []string{"good/+", "bad/+", "$share/g/fine/+"} })
			p := b.accept()
			p.connack(false)
			p.grant(func(filter string) byte {
				if filter == "bad/+" {
					return c.code
				}
				return 1
			})
			eventually(t, s, func(st Status) bool { return len(st.Refused) > 0 })
			st := s.Status()
			require.Equal(t, []string{"good/+", "$share/g/fine/+"}, st.Granted)
			require.Equal(t, []string{c.text}, st.Refused)
			require.Equal(t, "the broker refused the subscription to "+c.text, st.Problem)
			require.True(t, st.Connected)
			require.False(t, st.Subscribed)
			p.send(publish("good/x", 1, nil))
			require.Eventually(t, func() bool { return len(r.deliveries()) == 1 }, patience, time.Millisecond)
			s.Close()
			require.Equal(t, 1, log.count("mqtt subscription refused"))
			require.Zero(t, log.count("mqtt connected"))
		})
	}
}

func TestARefusedConnectionIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer []byte
		text   string
	}{
		"CONNACK 1":         {[]byte{0x20, 2, 0, 1}, "it does not take MQTT 3.1.1 (CONNACK 1)"},
		"CONNACK 2":         {[]byte{0x20, 2, 0, 2}, "client id rejected (CONNACK 2)"},
		"CONNACK 3":         {[]byte{0x20, 2, 0, 3}, "MQTT service unavailable (CONNACK 3)"},
		"CONNACK 4":         {[]byte{0x20, 2, 0, 4}, "broker refused the credentials (CONNACK 4)"},
		"CONNACK 5":         {[]byte{0x20, 2, 0, 5}, "broker refused the credentials (CONNACK 5)"},
		"CONNACK 6":         {[]byte{0x20, 2, 0, 6}, "reserved return code 6"},
		"CONNACK 254":       {[]byte{0x20, 2, 0, 254}, "reserved return code 254"},
		"HTTP":              {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "the answer to CONNECT is not MQTT 3.1.1"},
		"PINGRESP":          {pong, "packet type 13 before CONNACK"},
		"PUBLISH":           {publish("a", 1, nil), "packet type 3 before CONNACK"},
		"endless length":    {bytes.Repeat([]byte{0xff}, 10), "the answer to CONNECT is not MQTT 3.1.1"},
		"half a CONNACK":    {[]byte{0x20, 2, 0}, "closed the connection instead of answering CONNECT"},
		"nothing but a FIN": {nil, "closed the connection instead of answering CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, nil)
			r := &recorder{}
			log := &lines{}
			s := b.open(r, log.into)
			for range 3 {
				p := b.accept()
				require.IsType(t, &packets.ConnectPacket{}, p.read())
				p.send(c.answer)
				p.Close()
			}
			eventually(t, s, func(st Status) bool { return strings.Contains(st.Problem, c.text) })
			st := s.Status()
			require.Contains(t, st.Problem, b.addr)
			require.NotContains(t, st.Problem, "\n")
			require.False(t, st.Connected)
			require.False(t, st.Takeover)
			require.Zero(t, st.Connects)
			require.Zero(t, st.SessionsLost)
			b.connected(true)
			eventually(t, s, subscribed)
			s.Close()
			require.Equal(t, 1, log.count("mqtt not connected"), "once for a state:\n%s", log)
			require.Len(t, r.all(), 2, "only the connection that came about")
		})
	}
}

func TestAnUnreachableBrokerIsFoundOnceItIsThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	log := &lines{}
	b := &scripted{t: t, addr: addr}
	s := b.open(&recorder{}, log.into)
	eventually(t, s, func(st Status) bool { return strings.Contains(st.Problem, ErrUnreachable.Error()) })
	require.Contains(t, s.Status().Problem, "connection refused")
	require.Contains(t, s.Status().Problem, addr)
	s.Close()
	require.Equal(t, 1, log.count("mqtt not connected"))
}

func TestABadPacketEndsTheConnectionNotTheSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bad  func(*packets.SubscribePacket) []byte
		text string
	}{
		// paho v1.5.1 would index past its slice.
		"SUBACK with too many codes": {func(s *packets.SubscribePacket) []byte { return suback(s.MessageID, 1, 1, 1) }, "packet type 9 with 5 remaining bytes"},
		"SUBACK with none":           {func(s *packets.SubscribePacket) []byte { return suback(s.MessageID) }, "packet type 9 with 2 remaining bytes"},
		"garbage":                    {func(*packets.SubscribePacket) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 0xff} }, "remaining length is longer than four bytes"},
		"PUBLISH at QoS 2":           {func(*packets.SubscribePacket) []byte { return []byte{0x34, 5, 0, 1, 'a', 0, 1} }, "[MQTT-3.8.4-6]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, nil)
			log := &lines{}
			s := b.open(&recorder{}, log.into)
			p := b.accept()
			p.connack(false)
			sub, ok := p.read().(*packets.SubscribePacket)
			require.True(t, ok)
			p.send(c.bad(sub))
			p.rest()
			b.connected(true)
			eventually(t, s, subscribed)
			require.Equal(t, 1, log.count(c.text))
		})
	}
}

func TestASubackForAnotherPacketIsNoGrant(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.accept()
	p.connack(false)
	sub, ok := p.read().(*packets.SubscribePacket)
	require.True(t, ok)
	p.send(suback(sub.MessageID+1, 1), publish("a", 1, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 1 }, patience, time.Millisecond)
	require.False(t, s.Status().Subscribed)
	p.send(suback(sub.MessageID, 1), suback(sub.MessageID, 0x80))
	eventually(t, s, subscribed)
}

func TestAcksOfAnOldConnectionNeverReachTheNewOne(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	first := b.connected(false)
	first.send(publish("a", 1, nil), publish("a", 2, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 2 }, patience, time.Millisecond)
	old := r.deliveries()
	old[0].conn.Ack(1) // appended, not written: it dies with the connection
	first.reset()
	second := b.connected(true)
	redelivered := publish("a", 1, nil)
	redelivered[0] |= 8
	second.send(redelivered)
	require.Eventually(t, func() bool { return len(r.deliveries()) == 3 }, patience, time.Millisecond)
	for range 2 * ackBatch {
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

func TestATakeoverIsNamedAfterAFewAttempts(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	log := &lines{}
	s := b.open(&recorder{}, log.into)
	for n := range takeoverEnds {
		require.False(t, s.Status().Takeover, "attempt %d", n)
		p := b.accept()
		p.connack(true)
		if n%2 == 0 {
			p.reset()
		} else {
			p.Close()
		}
	}
	eventually(t, s, func(st Status) bool { return st.Takeover })
	require.Contains(t, s.Status().Problem, "another client seems to use the client id bridge-0")
	b.connected(true)
	eventually(t, s, subscribed)
	require.Equal(t, 1, log.count("another client seems to use the client id bridge-0"))
	require.True(t, s.Status().Takeover, "one connection is no proof that it is over")
}

func TestCloseReturnsInEveryState(t *testing.T) {
	t.Parallel()
	for name, reach := range map[string]func(*scripted, *Session){
		"at once":          func(*scripted, *Session) {},
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

func TestAConnectionAfterCloseIsNotAdopted(t *testing.T) {
	t.Parallel()
	// The dial may succeed just as Close has found nothing to close.
	ctx, cancel := context.WithCancel(t.Context())
	var s Session
	near, far := pipe()
	defer far.Close()
	tp := newTap(near, tapOptions{})
	require.NoError(t, s.adopt(ctx, tp))
	cancel()
	s.closeTap()
	require.ErrorIs(t, s.adopt(ctx, newTap(near, tapOptions{})), context.Canceled)
	require.Same(t, tp, s.tap)
}

func TestALossRightAfterConnackNeverHoldsUpTheNextAttempt(t *testing.T) {
	t.Parallel()
	// The connection ends at every moment of SUBSCRIBE's way through paho,
	// which waits 30 s for a writer that is gone unless it is told otherwise.
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	s.Close()
	served := make(chan struct{})
	const attempts = 300
	go func() {
		defer close(served)
		for range attempts {
			c := <-b.conns
			if _, err := packets.ReadPacket(c); err == nil {
				_, _ = c.Write(connackKept)
			}
			c.Close()
		}
	}()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for range attempts {
			_, _ = s.connection(t.Context())
		}
	}()
	select {
	case <-finished:
	case <-time.After(10 * patience):
		require.Fail(t, "an attempt hangs")
	}
	<-served
	require.Len(t, r.all(), 2*attempts)
}

func TestFaultyOptionsAreNamed(t *testing.T) {
	t.Parallel()
	good := Options{Address: "a:1", ClientID: "c", Filters: []string{"a"}, Receiver: &recorder{}}
	for text, change := range map[string]func(*Options){
		"no broker address":            func(o *Options) { o.Address = "" },
		"no client id":                 func(o *Options) { o.ClientID = "" },
		"no topic filter":              func(o *Options) { o.Filters = nil },
		"no receiver":                  func(o *Options) { o.Receiver = nil },
		`"" is no topic filter`:        func(o *Options) { o.Filters = []string{"a", ""} },
		`"a/#/b" is no topic filter`:   func(o *Options) { o.Filters = []string{"a/#/b"} },
		`"a#" is no topic filter`:      func(o *Options) { o.Filters = []string{"a#"} },
		`"tenant+/a" is no topic filt`: func(o *Options) { o.Filters = []string{"tenant+/a"} },
	} {
		o := good
		change(&o)
		_, err := Open(o)
		require.ErrorContains(t, err, "open MQTT session: "+text)
	}
	for _, f := range []string{"#", "+", "/", "a/#", "+/+", "$share/g/a/#", "a//b"} {
		require.True(t, validFilter(f), f)
	}
	o := good
	o.Filters = []string{"b", "a", "b"}
	require.NoError(t, o.setDefaults())
	require.Equal(t, []string{"b", "a"}, o.Filters)
	for given, want := range map[time.Duration]time.Duration{
		0: 30 * time.Second, -1: 30 * time.Second, time.Millisecond: time.Second, 1000 * time.Hour: 65_535 * time.Second,
	} {
		o.KeepAlive = given
		require.NoError(t, o.setDefaults())
		require.Equal(t, want, o.KeepAlive, "%v", given)
	}
}

func TestNoSecretAndNoPayloadInTheLog(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	log := &lines{}
	s := b.open(&recorder{ack: true}, log.into, func(o *Options) { o.Username, o.Password = "u", "pass-word-1" })
	p := b.connected(false)
	p.send(publish("a", 1, []byte("pay-load-1")))
	p.read()
	p.reset()
	p = b.accept()
	p.read()
	p.send([]byte{0x20, 2, 0, 4})
	eventually(t, s, func(st Status) bool { return strings.Contains(st.Problem, "CONNACK 4") })
	s.Close()
	require.NotEmpty(t, log.String())
	require.NotContains(t, log.String(), "pass-word-1")
	require.NotContains(t, log.String(), "pay-load-1")
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

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
