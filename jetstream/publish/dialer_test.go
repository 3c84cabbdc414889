package publish

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The kernel would continue to send the buffer of a closed connection for minutes, and its messages
// would be stored twice if JetStream has forgotten the first copy.
func TestDialerClosedConnection(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	d := &dialer{timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	server, err := listener.Accept()
	require.NoError(t, err)
	defer server.Close()

	// The server does not read: a write fails when all buffers on the way are full.
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	piece, written := bytes.Repeat([]byte("x"), 1<<20), 0
	for err == nil {
		var n int
		n, err = conn.Write(piece)
		written += n
	}
	conn.Close()
	read, err := io.Copy(io.Discard, server)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Less(t, read, int64(written))
}
