package port

import (
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReserve(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux keeps the port")
	}
	reserved := map[string]*net.TCPAddr{} // many, so that one of them would be met soon
	for range 300 {
		addr, release, err := Reserve()
		require.NoError(t, err)
		defer release()
		require.Nil(t, reserved[addr.String()])
		reserved[addr.String()] = addr
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for range 1000 {
		other, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.Nil(t, reserved[other.Addr().String()])
		require.NoError(t, other.Close())
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		require.Nil(t, reserved[c.LocalAddr().String()])
		require.NoError(t, c.Close())
	}
	for _, addr := range reserved {
		for range 2 {
			_, err := net.DialTCP("tcp", nil, addr)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			server, err := net.ListenTCP("tcp", addr)
			require.NoError(t, err)
			c, err := net.DialTCP("tcp", nil, addr)
			require.NoError(t, err)
			require.NoError(t, server.Close())
			require.NoError(t, c.Close())
		}
	}
}
