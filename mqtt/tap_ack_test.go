package mqtt

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

func TestTapAck(t *testing.T) {
	t.Parallel()
	t.Run("PUBACKs are sent together before reader waits", testPUBACKsAreSentTogetherBeforeReaderWaits)
	t.Run("Ack only appends", testAckOnlyAppends)
	t.Run("Ack never blocks", testAckNeverBlocks)
	t.Run("PUBACKs precede packets of paho and DISCONNECT", testPUBACKsPrecedePacketsOfPahoAndDISCONNECT)
	t.Run("broker that never reads is disconnected", testBrokerThatNeverReadsIsDisconnected)
	t.Run("Close ends blocked write", testCloseEndsBlockedWrite)
	t.Run("concurrent acks stay whole and in order", testConcurrentAcksStayWholeAndInOrder)
}

func testPUBACKsAreSentTogetherBeforeReaderWaits(t *testing.T) {
	t.Parallel()
	var wire []byte
	var ids []uint16
	for id := uint16(1); id <= 100; id++ {
		wire = append(wire, publish("t", id, []byte("x"))...)
		ids = append(ids, id)
	}
	r := &recorder{ack: true}
	conn := &memConn{chunks: [][]byte{connackNew, wire, publish("t", 500, nil)}}
	var before []int // writes before each read
	conn.onRead = func() { before = append(before, len(conn.writes())) }
	_, err := readAll(newTap(conn, &Options{Receiver: r}))
	require.Equal(t, io.EOF, err)
	require.Equal(t, [][]byte{pubacks(ids...), pubacks(500)}, conn.writes())
	require.Equal(t, []int{0, 0, 1, 2}, before, "written before the reader waits")
}

func testAckOnlyAppends(t *testing.T) {
	t.Parallel()
	conn := &memConn{}
	tp := newTap(conn, &Options{Receiver: &recorder{}})
	var ids []uint16
	for range 3 {
		for id := uint16(1); id <= 1000; id++ {
			tp.Ack(id)
			ids = append(ids, id)
		}
		before := len(conn.writes())
		tp.Flush()
		tp.Flush()
		require.Len(t, conn.writes(), before+1, "an empty flush writes nothing")
	}
	require.Equal(t, pubacks(ids...), conn.sent())
}

func testAckNeverBlocks(t *testing.T) {
	t.Parallel()
	near, far := pipe()
	defer far.Close()
	tp := newTap(near, &Options{Receiver: &recorder{}})
	fill(tp)
	done := make(chan struct{})
	go func() { tp.Flush(); close(done) }()
	// One byte of the batch shows that the write has begun, and the broker reads
	// no further.
	_, err := io.ReadFull(far, make([]byte, 1))
	require.NoError(t, err)
	for id := range uint16(10_000) {
		tp.Ack(id) // would hang here forever
	}
	require.Len(t, tp.acks, 4*10_000)
	tp.Close()
	<-done
	require.Empty(t, tp.acks)
}

func testPUBACKsPrecedePacketsOfPahoAndDISCONNECT(t *testing.T) {
	t.Parallel()
	conn := &memConn{}
	tp := newTap(conn, &Options{Receiver: &recorder{}})
	tp.Ack(1)
	require.NoError(t, packets.NewControlPacket(packets.Pingreq).Write(tp))
	tp.Ack(2)
	tp.Ack(0x0102)
	require.NoError(t, packets.NewControlPacket(packets.Disconnect).Write(tp))
	want := [][]byte{pubacks(1), {0xc0, 0}, pubacks(2, 0x0102), {0xe0, 0}}
	require.Equal(t, want, conn.writes())
	// [MQTT-3.14.4-2]: a settled message may come just now.
	tp.Ack(3)
	tp.Flush()
	_, err := tp.Write([]byte{0xc0, 0})
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, want, conn.writes())
}

func TestTapStaleAcks(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*tap){
		"closed here":      func(tp *tap) { tp.Close() },
		"closed by broker": func(tp *tap) { _, _ = readAll(tp) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &memConn{chunks: [][]byte{connackNew}}
			tp := newTap(conn, &Options{Receiver: &recorder{}})
			end(tp)
			before := len(conn.sent())
			for id := range uint16(1000) {
				tp.Ack(id)
			}
			tp.Flush()
			_, err := tp.Write([]byte{0xc0, 0})
			require.ErrorIs(t, err, net.ErrClosed)
			require.Len(t, conn.sent(), before)
			require.Empty(t, tp.acks, "nothing gathers on a dead connection")
		})
	}
}

func TestTapWriteErrors(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*tap){
		"flush": func(tp *tap) { tp.Ack(1); tp.Flush() },
		"many":  func(tp *tap) { fill(tp); tp.Flush() },
		"paho":  func(tp *tap) { _, _ = tp.Write([]byte{0xc0, 0}) },
		"both":  func(tp *tap) { tp.Ack(1); _, _ = tp.Write([]byte{0xc0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{}
			conn := &memConn{chunks: [][]byte{connackNew, pong}, writeErr: &net.OpError{Op: "write", Err: syscall.EPIPE}}
			tp := newTap(conn, &Options{Receiver: r})
			_, err := tp.Read(make([]byte, 4))
			require.NoError(t, err)
			write(tp)
			_, err = readAll(tp)
			require.ErrorIs(t, err, syscall.EPIPE)
			require.ErrorContains(t, err, "write to the broker")
			require.ErrorIs(t, endReason(tp, nil), ErrClosedByBroker, "the broker went, whichever side noticed it")
			requireLife(t, tp, r.all())
		})
	}
}

func fill(tp *tap) {
	for id := range uint16(128) {
		tp.Ack(id + 1)
	}
}

func testBrokerThatNeverReadsIsDisconnected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		defer far.Close()
		r := &recorder{}
		tp := newTap(near, &Options{Receiver: r})
		go func() { _, _ = far.Write(connackNew) }()
		_, err := tp.Read(make([]byte, 4))
		require.NoError(t, err)
		start := time.Now()
		fill(tp)
		tp.Flush() // the pipe has no buffer: this waits for the broker
		require.Equal(t, writeTimeout, time.Since(start))
		_, err = tp.Read(make([]byte, 4))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, err, "write to the broker")
		requireLife(t, tp, r.all())
	})
}

func testCloseEndsBlockedWrite(t *testing.T) {
	t.Parallel()
	near, far := pipe()
	defer far.Close()
	tp := newTap(near, &Options{Receiver: &recorder{}})
	done := make(chan struct{})
	go func() { fill(tp); tp.Flush(); close(done) }()
	// One byte of the batch shows that the write has begun.
	_, err := io.ReadFull(far, make([]byte, 1))
	require.NoError(t, err)
	tp.Close()
	<-done
	require.ErrorIs(t, tp.err, errClosedHere)
}

func testConcurrentAcksStayWholeAndInOrder(t *testing.T) {
	t.Parallel()
	conn := &memConn{}
	tp := newTap(conn, &Options{Receiver: &recorder{}})
	const goroutines, each = 8, 1000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				tp.Ack(uint16(g*each + i + 1))
				if i%17 == g {
					tp.Flush()
				}
				if i%101 == g {
					_, _ = tp.Write([]byte{0xc0, 0})
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(packets.NewControlPacket(packets.Disconnect).Write(tp)))
	last := make([]int, goroutines)
	acks := 0
	for wire := bytes.NewReader(conn.sent()); wire.Len() > 0; {
		cp, err := packets.ReadPacket(wire)
		require.NoError(t, err)
		if ack, ok := cp.(*packets.PubackPacket); ok {
			acks++
			g, i := (int(ack.MessageID)-1)/each, (int(ack.MessageID)-1)%each+1
			require.Greater(t, i, last[g], "in the order of the calls")
			last[g] = i
		}
	}
	require.Equal(t, goroutines*each, acks)
}
