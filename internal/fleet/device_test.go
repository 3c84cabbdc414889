package fleet_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func message(n int) (string, []byte) { return "t", []byte{byte(n)} }

func address(b *broker.Broker) string { return b.URL()[len("tcp://"):] }

func TestDevice(t *testing.T) {
	t.Parallel()
	t.Run("publishes all messages", testPublishesAllMessages)
	t.Run("refused connection is reported", testRefusedConnectionIsReported)
	t.Run("connection loss without reconnect is an error", testConnectionLossWithoutReconnectIsAnError)
	t.Run("will is published only on kill", testWillIsPublishedOnlyOnKill)
	t.Run("messages without PUBACK are resent in order", testMessagesWithoutPUBACKAreResentInOrder)
	t.Run("stopped device gives up after drain timeout", testStoppedDeviceGivesUpAfterDrainTimeout)
}

func testPublishesAllMessages(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{Username: "u", Password: "p"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	d := fleet.New(fleet.Options{
		Address: address(b), Connect: wire.Connect{ClientID: "d", Username: "u", Password: "p", KeepAlive: time.Minute},
		Window: 10, Count: 1000, Message: message,
	})
	require.NoError(t, d.Connect(t.Context()))
	require.True(t, d.Connected())
	require.NoError(t, d.Run(t.Context()))
	require.EqualValues(t, 1000, d.Sent())
	require.EqualValues(t, 1000, d.Acked())
	d.Disconnect()
	require.False(t, d.Connected())
	require.Eventually(t, func() bool { return len(b.Clients()) == 0 }, testrun.Timeout, time.Millisecond)
}

func testRefusedConnectionIsReported(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{Username: "u", Password: "p"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	f := &fleet.Fleet{Devices: []*fleet.Device{fleet.New(fleet.Options{
		Address: address(b), Connect: wire.Connect{ClientID: "d", Username: "u", Password: "wrong"},
	})}}
	err = f.Connect(t.Context())
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, `connect device "d": the broker refuses the connection: code`)
}

// For a device that does not reconnect, the end of its connection is an error.
func testConnectionLossWithoutReconnectIsAnError(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	var once sync.Once
	d := fleet.New(fleet.Options{
		Address: address(b), Connect: wire.Connect{ClientID: "d"}, Message: message,
		Acked: func(int) { once.Do(func() { go b.Kick("d") }) },
	})
	require.NoError(t, d.Connect(t.Context()))
	require.ErrorContains(t, d.Run(t.Context()), `publish as device "d", message `)
	d.Disconnect()
}

func testWillIsPublishedOnlyOnKill(t *testing.T) {
	t.Parallel()
	b, err := broker.Open(broker.Options{Attest: true, DeviceUsernames: true, WillAttributes: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	will := &wire.Will{Topic: "tenant/a/device/b/status", Payload: []byte("gone")}
	for i, kill := range []bool{false, true} {
		d := fleet.New(fleet.Options{Address: address(b), Connect: wire.Connect{ClientID: "d", Username: "a/b", Will: will}})
		require.NoError(t, d.Connect(t.Context()))
		if kill {
			d.Kill()
		} else {
			d.Disconnect()
		}
		require.Eventually(t, func() bool { return b.Stats().Attested == int64(i) }, testrun.Timeout, time.Millisecond)
	}
}

// scripted is a broker that answers CONNECT and passes every PUBLISH to the test.
type scripted struct {
	net.Listener
	publishes chan publish
}

type publish struct {
	conn net.Conn
	dup  bool
	id   uint16
	n    byte
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &scripted{Listener: l, publishes: make(chan publish, 100)}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wait.Wait()
	})
	return s
}

func (s *scripted) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		first, body, err := wire.Read(in)
		if err != nil {
			return
		}
		switch first >> 4 {
		case 1:
			_, _ = conn.Write([]byte{0x20, 2, 1, 0})
		case 3:
			s.publishes <- publish{conn, first&wire.Dup != 0, binary.BigEndian.Uint16(body[3:]), body[5]}
		}
	}
}

func (p publish) ack() { _, _ = p.conn.Write(wire.AppendPuback(nil, p.id)) }

// On the next connection, a device resends its unacknowledged messages before any new one: in
// order, with DUP and the same packet ids.
func testMessagesWithoutPUBACKAreResentInOrder(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	var mu sync.Mutex
	sends, acks, lost := map[int]int{}, map[int]int{}, 0
	d := fleet.New(fleet.Options{
		Address: s.Addr().String(), Connect: wire.Connect{ClientID: "d", KeepSession: true}, Window: 3, Count: 5, Reconnect: true, Message: message,
		Sent:  func(n int) { mu.Lock(); defer mu.Unlock(); sends[n]++ },
		Acked: func(n int) { mu.Lock(); defer mu.Unlock(); acks[n]++ },
		Lost:  func(error) { mu.Lock(); defer mu.Unlock(); lost++ },
	})
	require.NoError(t, d.Connect(t.Context()))
	require.True(t, d.SessionPresent())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()

	first := []publish{<-s.publishes, <-s.publishes, <-s.publishes}
	first[1].ack()
	next := <-s.publishes // the PUBACK has made room
	require.EqualValues(t, 3, next.n)
	next.conn.Close()
	for _, want := range []publish{first[0], first[2], next} {
		again := <-s.publishes
		require.Equal(t, want.n, again.n)
		require.Equal(t, want.id, again.id)
		require.True(t, again.dup)
		again.ack()
	}
	last := <-s.publishes
	require.EqualValues(t, 4, last.n)
	require.False(t, last.dup)
	last.ack()
	require.NoError(t, <-ended)
	d.Disconnect()
	require.Equal(t, map[int]int{0: 2, 1: 1, 2: 2, 3: 2, 4: 1}, sends)
	require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 1}, acks)
	require.Equal(t, 1, lost)
	require.EqualValues(t, 5, d.Sent())
	require.EqualValues(t, 2, d.Connections())
}

// A stopped device waits for its PUBACKs until a timeout.
func testStoppedDeviceGivesUpAfterDrainTimeout(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	d := fleet.New(fleet.Options{
		Address: s.Addr().String(), Connect: wire.Connect{ClientID: "d"}, Reconnect: true, Drain: time.Millisecond, Message: message,
	})
	require.NoError(t, d.Connect(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-s.publishes
	cancel()
	err := <-ended
	require.True(t, errors.Is(err, fleet.ErrNoAnswer), err)
	d.Disconnect()
}
