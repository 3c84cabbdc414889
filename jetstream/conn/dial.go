package conn

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// Dial looks the name up itself, for nats.go would do so before it dials, and takes
// the addresses of a name in any order, as nats.go does: a fleet's connections spread
// over the servers behind it.
func Dial(network, address string, timeout time.Duration) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	for _, i := range rand.Perm(len(addresses)) {
		var conn net.Conn
		if conn, err = net.DialTimeout(network, net.JoinHostPort(addresses[i], port), timeout); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// evidence is what the server on the other end of a socket has sent.
type evidence struct {
	first   string // its first bytes
	refusal string // the text of its latest -ERR; empty: none
}

// failFastConn closes itself on the first failed write. When a flush fails, nats.go discards its
// buffer and, if no byte was sent, keeps the connection (v1.55, natsWriter.flush). Messages sent
// later would then overtake the lost ones.
type failFastConn struct{ net.Conn }

func (c *failFastConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Conn.Close()
	}
	return n, err
}
