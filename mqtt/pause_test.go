package mqtt

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// narrow is a receiver that may have no room.
type narrow struct {
	recorder
	mu   sync.Mutex
	full chan struct{} // nil: there is room
}

var _ bridge.Backpressure = (*narrow)(nil)

func (n *narrow) Ready() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.full
}

func (n *narrow) fill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.full = make(chan struct{})
}

func (n *narrow) empty() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.full)
	n.full = nil
}

func TestBackpressure(t *testing.T) {
	t.Parallel()
	t.Run("nothing is read while receiver is full", testNothingIsReadWhileReceiverIsFull)
	t.Run("paused connection stays alive", testPausedConnectionStaysAlive)
	t.Run("full receiver does not prevent connecting", testFullReceiverDoesNotPreventConnecting)
	t.Run("Close ends pause of reader", testCloseEndsPauseOfReader)
	t.Run("SUBACK after long backlog is awaited", testSUBACKAfterLongBacklogIsAwaited)
}

func testNothingIsReadWhileReceiverIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &narrow{recorder: recorder{ack: true}}
		big := publish("a", 2, pattern(100_000))
		conn := &memConn{chunks: [][]byte{append(bytes.Clone(connackNew), publish("a", 1, nil)...), big[:50_000], big[50_000:]}}
		reads := 0
		conn.onRead = func() {
			if reads++; reads == 2 {
				r.fill() // in the middle of a packet
			}
		}
		tp := newTap(conn, &Options{Receiver: r, MaxPacket: 1 << 20})
		done := make(chan error)
		go func() { _, err := readAll(tp); done <- err }()
		synctest.Wait()
		require.Equal(t, 2, reads)
		require.Equal(t, pubacks(1), conn.sent(), "what was settled is written before")
		r.empty()
		require.Equal(t, io.EOF, <-done)
		require.Len(t, r.deliveries(), 2)
		require.Equal(t, pattern(100_000), r.deliveries()[1].Payload)
		requireLife(t, tp, r.all())
	})
}

func testPausedConnectionStaysAlive(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		r := &narrow{recorder: recorder{ack: true}}
		log := &lines{}
		s := b.openFor(r, log.into, func(o *Options) { o.KeepAlive = 10 * time.Second })
		p := b.connected(false)
		// This answer is read, and the pause begins behind it.
		require.IsType(t, &packets.PingreqPacket{}, p.read())
		r.fill()
		p.send(pong)
		start, pings := time.Now(), 0
		for time.Since(start) < 10*time.Minute {
			require.IsType(t, &packets.PingreqPacket{}, p.read())
			pings++
		}
		require.GreaterOrEqual(t, pings, 10*60/15, "the broker sees that the client lives [MQTT-3.1.2-24]")
		require.True(t, s.Status().Subscribed)
		go r.empty()
		p.send(pong, publish("a", 1, nil))
		require.IsType(t, &packets.PubackPacket{}, p.read())
		require.Equal(t, uint64(1), s.Status().Connects)
		require.Zero(t, log.count("lost"))
		// Awake again, it wants its answers from the broker.
		p.rest()
		require.GreaterOrEqual(t, len(r.deliveries()), 1)
		b.accept()
		require.Equal(t, 1, log.count("pingresp not received"))
	})
}

func testFullReceiverDoesNotPreventConnecting(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		// The broker was restarted during an outage of NATS: the ring is full
		// of what the old connection delivered.
		r := &narrow{}
		r.fill()
		s := b.openFor(r, func(o *Options) { o.KeepAlive = time.Hour })
		p := b.accept()
		p.connack(true)
		sub, ok := p.read().(*packets.SubscribePacket)
		require.True(t, ok)
		time.Sleep(time.Minute) // virtual
		require.True(t, s.Status().Connected, "%s", s.Status().Problem)
		r.empty()
		p.send(suback(sub.MessageID, 1))
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		require.Equal(t, uint64(1), s.Status().Connects)
	})
}

func testCloseEndsPauseOfReader(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		r := &narrow{}
		s := b.openFor(r)
		p := b.connected(false)
		synctest.Wait()
		r.fill()
		p.send(publish("a", 1, nil))
		synctest.Wait()
		done := make(chan []packets.ControlPacket)
		go func() { done <- p.rest() }()
		start := time.Now()
		s.Close()
		require.Zero(t, time.Since(start))
		require.IsType(t, &packets.DisconnectPacket{}, (<-done)[0])
		require.Equal(t, "disconnected", r.all()[2].kind)
	})
}

func testSUBACKAfterLongBacklogIsAwaited(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{})
		p := b.accept()
		p.connack(true)
		sub, ok := p.read().(*packets.SubscribePacket)
		require.True(t, ok)
		for id := range uint16(100) { // twenty-odd seconds of kept messages
			p.send(publish("a", id+1, nil))
			time.Sleep(time.Second / 4) // virtual
		}
		p.send(suback(sub.MessageID, 1))
		synctest.Wait()
		require.True(t, s.Status().Subscribed)
		require.Equal(t, uint64(1), s.Status().Connects)
	})
}
