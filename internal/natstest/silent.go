package natstest

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SilentServers returns the URLs of a hundred servers that accept connections and send nothing. One attempt of nats.go
// on all of them takes longer than any test waits.
func SilentServers(t *testing.T) string {
	t.Helper()
	var urls []string
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts connections
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.Close()) })
		urls = append(urls, "nats://"+l.Addr().String())
	}
	return strings.Join(urls, ",")
}
