package mqtt

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/mqtt/dial"
)

func TestSessionRefusedFilter(t *testing.T) {
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
			require.Eventually(t, func() bool { return len(r.deliveries()) == 1 }, testrun.Timeout, time.Millisecond)
			s.Close()
			require.Equal(t, 1, log.count("mqtt subscription refused"))
			require.Zero(t, log.count("mqtt connected"))
		})
	}
}

func TestSessionRefusedConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer []byte
		text   string
	}{
		"CONNACK 1":         {[]byte{0x20, 2, 0, 1}, "does not accept MQTT 3.1.1: CONNACK 1"},
		"CONNACK 2":         {[]byte{0x20, 2, 0, 2}, "refuses the client id: CONNACK 2"},
		"CONNACK 3":         {[]byte{0x20, 2, 0, 3}, "is not available: CONNACK 3"},
		"CONNACK 4":         {[]byte{0x20, 2, 0, 4}, "requires credentials, but none are configured: CONNACK 4"},
		"CONNACK 5":         {[]byte{0x20, 2, 0, 5}, "requires credentials, but none are configured: CONNACK 5"},
		"CONNACK 6":         {[]byte{0x20, 2, 0, 6}, "reserved return code 6"},
		"CONNACK 254":       {[]byte{0x20, 2, 0, 254}, "reserved return code 254"},
		"HTTP":              {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak MQTT: it is an HTTP server"},
		"PINGRESP":          {pong, "packet type 13 before CONNACK"},
		"PUBLISH":           {publish("a", 1, nil), "packet type 3 before CONNACK"},
		"endless length":    {bytes.Repeat([]byte{0xff}, 10), "does not speak MQTT"},
		"half a CONNACK":    {[]byte{0x20, 2, 0}, "closes the connection instead of answering CONNECT"},
		"nothing but a FIN": {nil, "closes the connection instead of answering CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, b *scripted) {
				r := &recorder{}
				log := &lines{}
				s := b.open(r, log.into)
				for range 3 {
					p := b.accept()
					require.IsType(t, &packets.ConnectPacket{}, p.read())
					if len(c.answer) > 0 {
						p.send(c.answer)
					}
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
				// Wait until the reader reads: otherwise nothing reads what Close writes, and
				// virtual time stops while a goroutine waits for a mutex.
				synctest.Wait()
				require.True(t, s.Status().Subscribed)
				s.Close()
				require.Equal(t, 1, log.count("mqtt not connected"), "once for a state:\n%s", log)
				require.Len(t, r.all(), 2, "only the connection that came about")
			})
		})
	}
}

func TestSessionFailure(t *testing.T) {
	t.Parallel()
	t.Run("unreachable broker is logged once", testUnreachableBrokerIsLoggedOnce)
	t.Run("SUBACK for another packet is not a grant", testSUBACKForAnotherPacketIsNotAGrant)
	t.Run("takeover is reported after a few attempts", testTakeoverIsReportedAfterAFewAttempts)
	t.Run("connection after Close is not adopted", testConnectionAfterCloseIsNotAdopted)
	t.Run("loss after CONNACK does not delay retry", testLossAfterCONNACKDoesNotDelayRetry)
	t.Run("log has no password and no payload", testLogHasNoPasswordAndNoPayload)
}

func testUnreachableBrokerIsLoggedOnce(t *testing.T) {
	t.Parallel()
	addr := testrun.Address(t).String()
	log := &lines{}
	b := &scripted{t: t, addr: addr}
	s := b.open(&recorder{}, log.into)
	eventually(t, s, func(st Status) bool { return errors.Is(st.Err, dial.ErrUnreachable) })
	require.Contains(t, s.Status().Problem, "connection refused")
	require.Contains(t, s.Status().Problem, addr)
	s.Close()
	require.Equal(t, 1, log.count("mqtt not connected"))
}

func TestSessionBadPacket(t *testing.T) {
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

func testSUBACKForAnotherPacketIsNotAGrant(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	p := b.accept()
	p.connack(false)
	sub, ok := p.read().(*packets.SubscribePacket)
	require.True(t, ok)
	p.send(suback(sub.MessageID+1, 1), publish("a", 1, nil))
	require.Eventually(t, func() bool { return len(r.deliveries()) == 1 }, testrun.Timeout, time.Millisecond)
	require.False(t, s.Status().Subscribed)
	p.send(suback(sub.MessageID, 1), suback(sub.MessageID, 0x80))
	eventually(t, s, subscribed)
}

func testTakeoverIsReportedAfterAFewAttempts(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	log := &lines{}
	s := b.open(&recorder{}, log.into)
	for n := range takeoverEnds {
		require.False(t, s.Status().Takeover, "attempt %d", n)
		p := b.connected(true)
		eventually(t, s, subscribed)
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

func testConnectionAfterCloseIsNotAdopted(t *testing.T) {
	t.Parallel()
	// The dial may succeed just as Close has found nothing to close.
	ctx, cancel := context.WithCancel(t.Context())
	var s Session
	near, far := pipe()
	defer far.Close()
	tp := newTap(near, &Options{})
	require.NoError(t, s.attach(ctx, tp))
	cancel()
	s.endHandshake()
	require.ErrorIs(t, s.attach(ctx, newTap(near, &Options{})), context.Canceled)
	require.Same(t, tp, s.tap)
}

func testLossAfterCONNACKDoesNotDelayRetry(t *testing.T) {
	t.Parallel()
	// The connection ends at every moment of SUBSCRIBE's way through paho,
	// which waits 30 s for a writer that is gone unless it is told otherwise.
	b := listen(t, nil)
	r := &recorder{}
	s := b.open(r)
	s.Close()
	before := len(r.all())
	const attempts = 300
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for range attempts {
			_, _ = s.connection(t.Context())
		}
	}()
	hangs := time.After(4 * testrun.Timeout)
	for {
		select {
		case c := <-b.conns:
			if _, err := packets.ReadPacket(c); err == nil {
				_, _ = c.Write(connackKept)
			}
			c.Close()
		case <-finished:
			require.Equal(t, 2*attempts, len(r.all())-before)
			return
		case <-hangs:
			require.FailNow(t, "an attempt hangs")
		}
	}
}

func TestSessionInvalidOptions(t *testing.T) {
	t.Parallel()
	good := Options{Servers: []dial.Server{{Address: "a:1"}}, ClientID: "c", Filters: []string{"a"}, Receiver: &recorder{}}
	for text, change := range map[string]func(*Options){
		"no broker address":               func(o *Options) { o.Servers = nil },
		"no client id":                    func(o *Options) { o.ClientID = "" },
		"no topic filter":                 func(o *Options) { o.Filters = nil },
		"no receiver":                     func(o *Options) { o.Receiver = nil },
		`"" is not a topic filter`:        func(o *Options) { o.Filters = []string{"a", ""} },
		`"a/#/b" is not a topic filter`:   func(o *Options) { o.Filters = []string{"a/#/b"} },
		`"a#" is not a topic filter`:      func(o *Options) { o.Filters = []string{"a#"} },
		`"tenant+/a" is not a topic filt`: func(o *Options) { o.Filters = []string{"tenant+/a"} },
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

func testLogHasNoPasswordAndNoPayload(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	log := &lines{}
	s := b.open(&recorder{ack: true}, log.into, func(o *Options) { o.Login = as("u", "pass-word-1") })
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
