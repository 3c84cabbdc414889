package mqtt

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// confirmed records what a tap confirms.
type confirmed struct {
	bridge.Receiver
	marks chan uint64
}

func (c confirmed) Confirmed(_ bridge.Conn, mark uint64) { c.marks <- mark }

// The broker answers pings in order: paho gets the answers to its own, the lane learns
// of those to its fences, and a fence goes out after the PUBACKs before it.
func TestTapFence(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer there.Close()
	r := confirmed{&recorder{}, make(chan uint64, 1)}
	p := newTap(here, &Options{Receiver: r})
	p.connected.Store(true)
	defer p.Close()
	forPaho := make(chan []byte, 4)
	go func() {
		for {
			b := make([]byte, 16)
			n, err := p.Read(b)
			if err != nil {
				return
			}
			forPaho <- b[:n]
		}
	}()
	read := func(n int) []byte {
		t.Helper()
		b := make([]byte, n)
		require.NoError(t, there.SetReadDeadline(time.Now().Add(10*time.Second)))
		for got := 0; got < n; {
			m, err := there.Read(b[got:])
			require.NoError(t, err)
			got += m
		}
		return b
	}
	write := func(b ...byte) {
		t.Helper()
		_, err := there.Write(b)
		require.NoError(t, err)
	}

	written := make(chan error)
	go func() {
		_, err := p.Write(pingRequest)
		written <- err
	}()
	require.Equal(t, pingRequest, read(2))
	require.NoError(t, <-written)
	p.Ack(7)
	p.Fence(8)
	p.Fence(9) // one is out already
	require.Equal(t, append(appendPuback(nil, 7), pingRequest...), read(6))
	require.Empty(t, r.marks)
	write(pingAnswer...)
	require.Equal(t, pingAnswer, <-forPaho)
	require.Empty(t, r.marks)
	write(pingAnswer...)
	require.Equal(t, uint64(8), <-r.marks)
	write(pingAnswer...) // unasked for
	require.Equal(t, pingAnswer, <-forPaho)
	p.Fence(10)
	require.Equal(t, pingRequest, read(2))
	write(pingAnswer...)
	require.Equal(t, uint64(10), <-r.marks)
	require.Empty(t, forPaho)
}
