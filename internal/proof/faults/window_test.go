package faults

import (
	"bufio"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// keepsWindow reports whether this mosquitto respects max_inflight_messages while messages are
// queued. Version 2.0.11 does not: each in-order PUBACK puts another full window in flight (its
// issue 2301), until the whole queue is in flight. It also reads one packet per client and loop
// iteration. Tens of thousands of PUBACKs then wait in its socket buffer (170 KB observed) and
// are lost with the connection.
//
// It then redelivers more messages than the 65,535 packet ids can distinguish, so a bridge
// cannot recognize the stored ones. A broker that respects its window redelivers at most one
// window.
func keepsWindow(t testing.TB) bool {
	t.Helper()
	const inflight, queued = 10, 500
	m := peers.Mosquitto(t, peers.MosquittoOptions{MaxInflight: inflight})
	c := dialSession(t, m.Addr, "probe")
	c.send(wire.Subscribe, append([]byte{0, 1, 0, 8}, "tenant/#\x01"...))
	require.EqualValues(t, 9, c.next(), "SUBACK")
	c.conn.Close()
	proof.StartLoad(t, proof.LoadOptions{Addr: m.Addr, Devices: 1, Total: queued}).AwaitEnd(t)

	c = dialSession(t, m.Addr, "probe")
	for range inflight {
		require.EqualValues(t, 3, c.next(), "PUBLISH")
	}
	c.send(wire.Puback, c.packetID[:])
	c.send(wire.Pingreq, nil)
	more := 0
	for c.next() == 3 { // until the PINGRESP
		more++
	}
	return more <= 1
}

// session is a raw MQTT connection with a persistent session.
type session struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	// packetID is the packet id of the first PUBLISH.
	packetID [2]byte
	known    bool
}

func dialSession(t testing.TB, addr, clientID string) *session {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, testrun.Timeout)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testrun.Timeout)))
	_, err = (&wire.Connect{ClientID: clientID, KeepSession: true}).Handshake(conn)
	require.NoError(t, err)
	return &session{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *session) send(first byte, body []byte) {
	c.t.Helper()
	_, err := c.conn.Write(append([]byte{first, byte(len(body))}, body...))
	require.NoError(c.t, err)
}

// next reads a packet and returns its type (§2.2.1).
func (c *session) next() byte {
	c.t.Helper()
	first, body, err := wire.Read(c.in)
	require.NoError(c.t, err)
	if first>>4 == 3 && !c.known {
		topic := 2 + int(binary.BigEndian.Uint16(body))
		c.known = copy(c.packetID[:], body[topic:]) == 2
	}
	return first >> 4
}
