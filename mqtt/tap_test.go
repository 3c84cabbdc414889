package mqtt

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

func TestTap(t *testing.T) {
	t.Parallel()
	t.Run("paho gets everything but PUBLISH", testPahoGetsEverythingButPUBLISH)
	t.Run("refused CONNACK is not a connection", testRefusedCONNACKIsNotAConnection)
	t.Run("packets across buffer boundaries are intact", testPacketsAcrossBufferBoundariesAreIntact)
	t.Run("buffer shrinks after long packet", testBufferShrinksAfterLongPacket)
	t.Run("oversize PUBLISH is truncated and next is intact", testOversizePUBLISHIsTruncatedAndNextIsIntact)
	t.Run("longest topic fits any maximum", testLongestTopicFitsAnyMaximum)
	t.Run("drained tap leaves messages with broker", testDrainedTapLeavesMessagesWithBroker)
	t.Run("empty read is an error", testEmptyReadIsAnError)
	t.Run("Close waits for last delivery and reports once", testCloseWaitsForLastDeliveryAndReportsOnce)
	t.Run("reader gets reason for close", testReaderGetsReasonForClose)
	t.Run("linger delays only a read that would block", testLingerDelaysOnlyAReadThatWouldBlock)
}

func testPahoGetsEverythingButPUBLISH(t *testing.T) {
	t.Parallel()
	forPaho := [][]byte{connackKept, suback(1, 1), pong, {0xb0, 2, 0, 9}, pong}
	var wire []byte
	for i, p := range forPaho {
		wire = append(wire, p...)
		wire = append(wire, publish(fmt.Sprint("t/", i), uint16(i+1), pattern(i*i*50))...)
		wire = append(wire, publish(fmt.Sprint("q0/", i), 0, nil)...)
	}
	for size := 1; size <= len(wire); size++ {
		r := &recorder{}
		tp := newTap(&memConn{chunks: chunked(wire, size)}, &Options{Receiver: r, Filters: make([]string, 1)})
		passed, err := readAll(tp, 1, 3)
		require.Equal(t, io.EOF, err)
		require.Equal(t, string(bytes.Join(forPaho, nil)), string(passed))
		events := r.all()
		requireLife(t, tp, events)
		require.True(t, events[0].present)
		require.Len(t, events, 2+2*len(forPaho))
		for i, d := range r.deliveries() {
			n := i / 2
			if i%2 == 1 {
				require.Equal(t, fmt.Sprint("q0/", n), string(d.Topic))
				continue
			}
			require.Equal(t, fmt.Sprint("t/", n), string(d.Topic))
			require.Equal(t, uint16(n+1), d.PacketID)
			require.Equal(t, pattern(n*n*50), d.Payload)
			require.NotZero(t, d.ReceivedAt)
		}
	}
}

func testRefusedCONNACKIsNotAConnection(t *testing.T) {
	t.Parallel()
	for code := byte(1); code <= maxConnack; code++ {
		r := &recorder{}
		tp := newTap(&memConn{chunks: [][]byte{{0x20, 2, 0, code}}}, &Options{Receiver: r})
		passed, err := readAll(tp)
		require.Equal(t, io.EOF, err)
		require.Equal(t, []byte{0x20, 2, 0, code}, passed)
		require.Empty(t, r.all())
	}
}

func testPacketsAcrossBufferBoundariesAreIntact(t *testing.T) {
	t.Parallel()
	// The packets' ends fall on every place around the end of the read
	// buffer, of a grown buffer and of the next ones.
	for _, first := range []int{readBuffer, minPacket - 64, 2 * readBuffer, 3*readBuffer - 7} {
		for shift := -12; shift <= 12; shift++ {
			payloads := [][]byte{pattern(first + shift), pattern(300), {}, pattern(readBuffer - 300 + shift), pattern(5)}
			wire := bytes.Clone(connackNew)
			for i, p := range payloads {
				wire = append(wire, publish("t", uint16(i+1), p)...)
			}
			wire = append(wire, pong...)
			for _, size := range []int{1460, readBuffer, len(wire)} {
				r := &recorder{}
				tp := newTap(&memConn{chunks: chunked(wire, size)}, &Options{Receiver: r, MaxPacket: 1 << 20})
				passed, err := readAll(tp)
				require.Equal(t, io.EOF, err)
				require.Equal(t, append(bytes.Clone(connackNew), pong...), passed)
				got := r.deliveries()
				require.Len(t, got, len(payloads))
				for i, p := range payloads {
					require.True(t, bytes.Equal(p, got[i].Payload), "payload %d of %d bytes, shift %d, chunks of %d", i, len(p), shift, size)
					require.Equal(t, len(p), got[i].PayloadSize)
				}
			}
		}
	}
}

func testBufferShrinksAfterLongPacket(t *testing.T) {
	t.Parallel()
	wire := append(bytes.Clone(connackNew), publish("t", 1, pattern(900<<10))...)
	r := &recorder{}
	tp := newTap(&memConn{chunks: [][]byte{wire, publish("t", 2, nil)}}, &Options{Receiver: r, MaxPacket: 1 << 20})
	_, err := readAll(tp)
	require.Equal(t, io.EOF, err)
	require.Len(t, r.deliveries(), 2)
	require.Len(t, tp.buf, readBuffer)
}

func testOversizePUBLISHIsTruncatedAndNextIsIntact(t *testing.T) {
	t.Parallel()
	const limit = minPacket
	overhead := len(publish("top", 1, pattern(limit))) - limit
	for _, over := range []int{-1, 0, 1, 2, readBuffer - 1, readBuffer, readBuffer + 1, 5*limit + 3} {
		payload := pattern(limit - overhead + over)
		big := publish("top", 1, payload)
		require.Len(t, big, limit+over)
		after := [][]byte{publish("next", 2, pattern(10)), pong, publish("last", 3, pattern(readBuffer))}
		wire := append(bytes.Clone(connackNew), big...)
		wire = append(wire, bytes.Join(after, nil)...)
		// A split at every byte around the beginning, the maximum and the end.
		var splits []int
		for _, border := range []int{len(connackNew), len(connackNew) + limit, len(connackNew) + len(big)} {
			for d := -8; d <= 8; d++ {
				if at := border + d; at > 0 && at < len(wire) {
					splits = append(splits, at)
				}
			}
		}
		for _, at := range splits {
			r := &recorder{ack: true}
			conn := &memConn{chunks: [][]byte{wire[:at:at], wire[at:]}}
			tp := newTap(conn, &Options{Receiver: r, MaxPacket: limit})
			passed, err := readAll(tp)
			require.Equal(t, io.EOF, err)
			require.Equal(t, append(bytes.Clone(connackNew), pong...), passed)
			got := r.deliveries()
			require.Len(t, got, 3, "over %d, split at %d", over, at)
			require.Equal(t, "top", string(got[0].Topic))
			require.Equal(t, uint16(1), got[0].PacketID)
			require.Equal(t, len(payload), got[0].PayloadSize)
			kept := payload[:len(payload)-max(over, 0)]
			require.True(t, bytes.Equal(kept, got[0].Payload), "over %d, split at %d: %d bytes", over, at, len(got[0].Payload))
			require.Equal(t, "next", string(got[1].Topic))
			require.Equal(t, pattern(10), got[1].Payload)
			require.Equal(t, "last", string(got[2].Topic))
			require.True(t, bytes.Equal(pattern(readBuffer), got[2].Payload))
			require.Equal(t, pubacks(1, 2, 3), conn.sent())
		}
	}
}

func testLongestTopicFitsAnyMaximum(t *testing.T) {
	t.Parallel()
	topic := string(bytes.Repeat([]byte("x"), 65_535))
	for _, maxPacket := range []int{0, 1, 1 << 20} {
		r := &recorder{}
		wire := append(bytes.Clone(connackNew), publish(topic, 1, pattern(100_000))...)
		tp := newTap(&memConn{chunks: [][]byte{wire}}, &Options{Receiver: r, MaxPacket: maxPacket})
		_, err := readAll(tp)
		require.Equal(t, io.EOF, err)
		got := r.deliveries()
		require.Len(t, got, 1)
		require.True(t, topic == string(got[0].Topic))
		require.Equal(t, 100_000, got[0].PayloadSize)
	}
}

func testDrainedTapLeavesMessagesWithBroker(t *testing.T) {
	t.Parallel()
	r := &recorder{ack: true}
	wire := append(bytes.Clone(connackNew), publish("t", 1, nil)...)
	conn := &memConn{chunks: [][]byte{wire, append(publish("t", 2, pattern(200_000)), publish("t", 3, nil)...), pong}}
	tp := newTap(conn, &Options{Receiver: r})
	conn.onRead = func() { tp.discard.Store(len(r.deliveries()) == 1) }
	passed, err := readAll(tp)
	require.Equal(t, io.EOF, err)
	require.Equal(t, append(bytes.Clone(connackNew), pong...), passed, "keep-alive goes on")
	require.Len(t, r.deliveries(), 1)
	require.Equal(t, pubacks(1), conn.sent())
}

func testEmptyReadIsAnError(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	tp := newTap(emptyReads{&memConn{}}, &Options{Receiver: r})
	_, err := readAll(tp)
	require.Equal(t, io.ErrNoProgress, err)
}

type emptyReads struct{ *memConn }

func (emptyReads) Read([]byte) (int, error) { return 0, nil }

func testCloseWaitsForLastDeliveryAndReportsOnce(t *testing.T) {
	t.Parallel()
	near, far := pipe()
	defer far.Close()
	r := &gate{entered: make(chan struct{}), leave: make(chan struct{})}
	tp := newTap(near, &Options{Receiver: r})
	read := make(chan error, 1)
	go func() { _, err := readAll(tp); read <- err }()
	_, err := far.Write(append(bytes.Clone(connackNew), publish("t", 1, nil)...))
	require.NoError(t, err)
	<-r.entered
	closed := make(chan struct{})
	go func() { tp.Close(); close(closed) }()
	_, err = far.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "the socket is closed immediately")
	select {
	case <-closed:
		require.Fail(t, "Close came back during a delivery")
	default:
	}
	close(r.leave)
	<-closed
	require.NoError(t, tp.Close())
	<-read
	requireLife(t, tp, r.all())
	require.Len(t, r.all(), 3)
}

// gate is a receiver that waits within Deliver.
type gate struct {
	recorder
	entered, leave chan struct{}
}

func (g *gate) Deliver(c bridge.Conn, d *bridge.Delivery) {
	g.recorder.Deliver(c, d)
	close(g.entered)
	<-g.leave
}

func testReaderGetsReasonForClose(t *testing.T) {
	t.Parallel()
	why := fmt.Errorf("a reason")
	conn := &memConn{chunks: [][]byte{connackNew}}
	tp := newTap(conn, &Options{Receiver: &recorder{}})
	_, err := tp.Read(make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, tp.closeBecause(why))
	require.NoError(t, tp.Close(), "the first reason stays")
	_, err = tp.Read(make([]byte, 4))
	require.Equal(t, why, err, "never net.ErrClosed: paho would not end its client")
	require.Equal(t, why, tp.err)
}

func testLingerDelaysOnlyAReadThatWouldBlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const linger = 5 * time.Millisecond
		big := publish("t", 1, pattern(70_000))
		conn := &memConn{chunks: [][]byte{connackNew, big[:100], big[100:], pong}}
		var at []time.Duration
		start := time.Now()
		conn.onRead = func() { at = append(at, time.Since(start)) }
		_, err := readAll(newTap(conn, &Options{Receiver: &recorder{}, Linger: linger}))
		require.Equal(t, io.EOF, err)
		// CONNACK is awaited without delay, and so is the rest of a packet.
		require.Equal(t, []time.Duration{0, linger, linger, 2 * linger, 3 * linger}, at)
	})
}
