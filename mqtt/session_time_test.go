package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/mqtt/dial"
)

// The tests of this file run whole sessions, paho included, over connections in
// memory and in virtual time.

func virtual(t *testing.T, f func(t *testing.T, b *scripted)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, inMemory(t)) })
}

func TestSessionTimeout(t *testing.T) {
	t.Parallel()
	t.Run("missing CONNACK is logged and retried", testMissingCONNACKIsLoggedAndRetried)
	t.Run("missing SUBACK is reported and retried", testMissingSUBACKIsReportedAndRetried)
	t.Run("missing PINGRESP ends connection", testMissingPINGRESPEndsConnection)
	t.Run("messages do not replace PINGRESP", testMessagesDoNotReplacePINGRESP)
	t.Run("broker that stops reading is reconnected", testBrokerThatStopsReadingIsReconnected)
}

func testMissingCONNACKIsLoggedAndRetried(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		start := time.Now()
		log := &lines{}
		s := b.open(&recorder{}, log.into)
		b.accept().rest()
		require.Equal(t, dial.ConnackTimeout, time.Since(start))
		for range 4 {
			b.accept().rest()
		}
		require.Equal(t, 1, log.count("no CONNACK within 25s"), "told, not repeated")
		b.connected(false)
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
	})
}

func testMissingSUBACKIsReportedAndRetried(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{})
		p := b.accept()
		p.connack(false)
		start := time.Now()
		synctest.Wait()
		require.Equal(t, "waiting for the broker to grant the subscription", s.Status().Problem)
		p.rest()
		require.Equal(t, answerTimeout, time.Since(start))
		next := b.accept()
		require.Equal(t, errNoSuback.Error(), s.Status().Problem)
		require.False(t, s.Status().Connected)
		next.connack(true)
		next.grant(func(string) byte { return 1 })
		synctest.Wait()
		require.Empty(t, s.Status().Problem)
	})
}

func testMissingPINGRESPEndsConnection(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		r := &recorder{}
		log := &lines{}
		s := b.open(r, log.into, func(o *Options) { o.KeepAlive = 10 * time.Second })
		p := b.connected(false)
		start := time.Now()
		for range 3 {
			require.IsType(t, &packets.PingreqPacket{}, p.read())
			p.send(pong)
		}
		require.True(t, s.Status().Connected)
		require.LessOrEqual(t, time.Since(start), 3*15*time.Second, "within 1.5 keep-alives [MQTT-3.1.2-24]")
		p.rest() // pings, and no answer
		b.connected(true)
		synctest.Wait()
		require.Equal(t, 1, log.count("pingresp not received"))
		require.Equal(t, uint64(2), s.Status().Connects)
		require.False(t, s.Status().Takeover)
	})
}

func testMessagesDoNotReplacePINGRESP(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{ack: true}, func(o *Options) { o.KeepAlive = 10 * time.Second })
		p := b.connected(false)
		done := make(chan []packets.ControlPacket)
		go func() { done <- p.rest() }()
		for n := range 100 { // one per second
			if _, err := p.Write(publish("a", uint16(n+1), nil)); err != nil {
				require.Greater(t, n, 9)
				break
			}
			time.Sleep(time.Second) // virtual
		}
		pings := 0
		for _, cp := range <-done {
			if _, ok := cp.(*packets.PingreqPacket); ok {
				pings++
			}
		}
		require.Equal(t, 1, pings)
		require.NotZero(t, s.Status().Connects)
	})
}

func testBrokerThatStopsReadingIsReconnected(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		r := &recorder{}
		log := &lines{}
		s := b.open(r, log.into)
		b.connected(false)
		synctest.Wait()
		conn := r.all()[0].conn
		start := time.Now()
		conn.Ack(1)
		conn.Flush()
		require.Equal(t, writeTimeout, time.Since(start))
		b.connected(true)
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		require.Equal(t, 1, log.count("write to the broker: "))
	})
}

func TestSessionClose(t *testing.T) {
	t.Parallel()
	t.Run("does not wait for broker that does not read", testDoesNotWaitForBrokerThatDoesNotRead)
	t.Run("working connection closes without delay", testWorkingConnectionClosesWithoutDelay)
	t.Run("PUBACK right after CONNACK is sent", testPUBACKRightAfterCONNACKIsSent)
	t.Run("back-off ends immediately", testBackOffEndsImmediately)
}

func testDoesNotWaitForBrokerThatDoesNotRead(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		r := &recorder{}
		s := b.open(r)
		b.connected(false)
		synctest.Wait()
		r.all()[0].conn.Ack(1)
		start := time.Now()
		s.Close()
		require.LessOrEqual(t, time.Since(start), closeTimeout+time.Second)
	})
}

func testWorkingConnectionClosesWithoutDelay(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{})
		p := b.connected(false)
		synctest.Wait()
		start := time.Now()
		done := make(chan []packets.ControlPacket)
		go func() { done <- p.rest() }()
		s.Close()
		require.Len(t, <-done, 1)
		require.Zero(t, time.Since(start))
	})
}

// A kept session's messages come right behind CONNACK, before paho has reported
// the connection.
func testPUBACKRightAfterCONNACKIsSent(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		for range 200 {
			r := &closer{}
			s := b.openFor(r)
			p := b.accept()
			p.read()
			r.s = s
			go func() { _, _ = p.Write(append(bytes.Clone(connackKept), publish("a", 7, nil)...)) }()
			var got []string
			for _, cp := range p.rest() {
				if _, ok := cp.(*packets.SubscribePacket); !ok {
					got = append(got, fmt.Sprintf("%T", cp))
				}
			}
			require.Equal(t, []string{"*packets.PubackPacket", "*packets.DisconnectPacket"}, got)
			<-s.done
		}
	})
}

// closer acknowledges and then closes the session immediately.
type closer struct {
	recorder
	s *Session
}

func (c *closer) Deliver(conn bridge.Conn, d *bridge.Delivery) {
	conn.Ack(d.PacketID)
	c.s.cancel()
}

func testBackOffEndsImmediately(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{})
		for range 12 { // the pause is long by now
			b.accept().Close()
		}
		synctest.Wait()
		start := time.Now()
		s.Close()
		require.Zero(t, time.Since(start))
	})
}

func TestSessionRefusalBackoff(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		b.open(&recorder{})
		start := time.Now()
		attempts := 0
		for time.Since(start) < 10*time.Minute {
			p := b.accept()
			p.connack(true)
			p.Close()
			attempts++
		}
		// At least half of maxPause apart, once the pause has grown.
		require.Less(t, attempts, 10+int(10*time.Minute/(maxPause/2)))
		require.Greater(t, attempts, 10*60/30, "it goes on trying")
	})
}

func TestSessionTakeover(t *testing.T) {
	t.Parallel()
	t.Run("reported as long as it lasts", testReportedAsLongAsItLasts)
	t.Run("past takeover is forgotten", testPastTakeoverIsForgotten)
	t.Run("failed write counts as close by broker", testFailedWriteCountsAsCloseByBroker)
}

// The other bridge is as patient as this one: when it has lost its connection it
// comes back after the same pauses.
func testReportedAsLongAsItLasts(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		log := &lines{}
		s := b.open(&recorder{}, log.into)
		var other backoff
		start, rounds := time.Now(), 0
		otherSince := start
		for ; time.Since(start) < 30*time.Minute; rounds++ {
			p := b.accept() // now the other is out
			pause := other.next(time.Now(), time.Since(otherSince), ErrClosedByBroker)
			p.connack(true)
			p.grant(func(string) byte { return 1 })
			time.Sleep(pause) // virtual
			if rounds > 2*takeoverEnds {
				require.True(t, s.Status().Takeover, "round %d, connected for %v", rounds, pause)
			}
			p.Close()
			otherSince = time.Now()
			synctest.Wait()
			if rounds > 2*takeoverEnds {
				require.True(t, s.Status().Takeover, "round %d after %v", rounds, time.Since(start))
			}
		}
		require.Less(t, rounds, 30*60/8, "not fought at full speed")
		require.LessOrEqual(t, strings.Count(log.String(), "connection lost"), 2*takeoverEnds, "told, not repeated:\n%s", log)
	})
}

func testPastTakeoverIsForgotten(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, func(o *Options) { o.KeepAlive = time.Hour })
		for range takeoverEnds {
			p := b.connected(true)
			synctest.Wait()
			p.Close()
		}
		b.connected(true)
		synctest.Wait()
		require.True(t, s.Status().Takeover)
		time.Sleep(3 * time.Minute) // virtual
		require.False(t, s.Status().Takeover)
		require.Empty(t, s.Status().Problem)
	})
}

func testFailedWriteCountsAsCloseByBroker(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		// Under load it is the PUBACKs that meet the closed connection.
		r := &recorder{}
		s := b.open(r)
		for range takeoverEnds {
			b.connected(true)
			synctest.Wait()
			events := r.all()
			conn := events[len(events)-1].conn.(*tap)
			conn.Conn.(*pipeConn).broken.Store(true)
			conn.Ack(1)
			conn.Flush()
			synctest.Wait()
		}
		require.True(t, s.Status().Takeover)
		require.Contains(t, s.Status().Problem, "bridge-0")
	})
}
