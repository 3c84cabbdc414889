package conn

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// Dial opens a TCP connection. It looks the name up itself and tries the addresses in random order,
// as nats.go would, so that a fleet's connections spread over the servers behind the name.
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

// serverOutput is what the server at the other end of a socket has sent.
type serverOutput struct {
	first   string // its first bytes
	refusal string // the text of its latest -ERR; empty: none
}
