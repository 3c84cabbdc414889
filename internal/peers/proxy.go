package peers

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// TCPProxy forwards connections to a target. Tests can cut or impair them.
//
// github.com/Shopify/toxiproxy/v2 v2.12.0 was tried as a library and cannot be used. A client that
// resets its connection while the other side sends (a killed bridge) leaks two goroutines: 82 after
// 100 such clients. A toxic that is added at that moment waits for them, and the proxy then blocks
// (seen at the second of 200 tries). Each chunk passes through three channels. Current connections
// cannot be reset without changing the port.
type TCPProxy struct {
	// Addr is the proxy's own host:port. It does not change.
	Addr string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu          sync.Mutex
	down        bool
	total       int
	links       map[*link]struct{}
	impairments [2]Impairment
	changed     chan struct{} // closed at the next change of impairment
}

// Impairment describes how a link impairs the bytes in one direction. The zero value forwards them
// immediately.
type Impairment struct {
	// Vanish drops the bytes. A connection that has lost bytes drops all later ones too, even after
	// the impairment has ended, as when a firewall loses the state of a connection. New connections
	// work once the impairment has ended.
	Vanish bool
	// Hold delays the bytes until the impairment ends, and the sender's socket buffer fills. It
	// simulates a network outage that TCP survives.
	Hold bool
	// Latency delays the bytes, in buffers of at most 32 KiB.
	Latency time.Duration
	// Rate limits the bytes per second; 0: no limit. A low rate simulates a peer that reads slowly.
	Rate int
}

// The two directions of a link, as seen from the client.
const (
	towards = iota
	back
)

// link is one forwarded connection: the client's connection and the one to the target.
type link struct {
	client, server net.Conn
	ended          chan struct{}
}

func (l *link) cut() {
	for _, c := range []net.Conn{l.client, l.server} {
		if c == nil {
			continue
		}
		// A reset instead of a FIN, as when a network fails.
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	if l.ended != nil {
		close(l.ended)
	}
}

// Proxy starts a proxy in front of target (host:port) on a free port of
// 127.0.0.1. It ends with the test.
func Proxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err, "open proxy listener")
	p := &TCPProxy{
		Addr: l.Addr().String(), target: target, listener: l,
		links: make(map[*link]struct{}), changed: make(chan struct{}),
	}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.Down()
		p.wg.Wait()
	})
	return p
}

func (p *TCPProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(client) })
	}
}

func (p *TCPProxy) forward(client net.Conn) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		(&link{client: client}).cut()
		return
	}
	server, err := net.DialTimeout("tcp", p.target, testrun.Timeout)
	if err != nil {
		(&link{client: client}).cut()
		return
	}
	l := &link{client: client, server: server, ended: make(chan struct{})}
	if !p.add(l) {
		l.cut()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pipe(l, server, client, towards) })
	both.Go(func() { p.pipe(l, client, server, back) })
	both.Wait()
	_ = client.Close()
	_ = server.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pipe copies one direction and forwards its end.
func (p *TCPProxy) pipe(l *link, to, from net.Conn, way int) {
	err := p.copy(l, to, from, way)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}

// copy copies until the end of from and then returns nil. If bytes were dropped, the end is not
// forwarded either: copy returns when the link is cut.
func (p *TCPProxy) copy(l *link, to, from net.Conn, way int) error {
	buf := make([]byte, 32<<10)
	dead := false
	for {
		imp, err := p.await(l, way, dead)
		if err != nil {
			return err
		}
		chunk := buf
		if imp.Rate > 0 {
			chunk = buf[:min(len(buf), max(imp.Rate/20, 1))]
		}
		n, err := from.Read(chunk)
		// The impairment may have changed during the read.
		if n > 0 && !dead {
			if imp, err := p.await(l, way, false); err != nil {
				return err
			} else if dead = imp.Vanish; !dead {
				pause := imp.Latency
				if imp.Rate > 0 {
					pause += time.Duration(n) * time.Second / time.Duration(imp.Rate)
				}
				if !l.sleep(pause) {
					return net.ErrClosed
				}
				if _, err := to.Write(chunk[:n]); err != nil {
					return err
				}
			}
		}
		switch {
		case err != nil && dead: // the end is not forwarded
			<-l.ended
			return net.ErrClosed
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// await waits until bytes may be forwarded, and returns the impairment. It does not wait for a dead
// connection, which forwards nothing.
func (p *TCPProxy) await(l *link, way int, dead bool) (Impairment, error) {
	for {
		p.mu.Lock()
		imp, changed := p.impairments[way], p.changed
		p.mu.Unlock()
		if !imp.Hold || dead {
			return imp, nil
		}
		select {
		case <-changed:
		case <-l.ended:
			return imp, net.ErrClosed
		}
	}
}

// sleep waits for the duration d. It returns false if the link was cut before that.
func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended:
		return false
	}
}

func (p *TCPProxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return false
	}
	p.links[l] = struct{}{}
	p.total++
	return true
}

// Impair sets the impairments of both directions, for current and new connections.
func (p *TCPProxy) Impair(towardsTarget, fromTarget Impairment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.impairments = [2]Impairment{towards: towardsTarget, back: fromTarget}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Mend removes the impairments. Connections that lost bytes stay dead.
func (p *TCPProxy) Mend() { p.Impair(Impairment{}, Impairment{}) }

// Cut resets all current connections and returns their number. New connections work.
func (p *TCPProxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut()
}

func (p *TCPProxy) cut() int {
	n := len(p.links)
	for l := range p.links {
		l.cut()
		delete(p.links, l)
	}
	return n
}

// Down resets all connections, and every new one until Up, to simulate a network outage. It returns
// the number of current connections.
func (p *TCPProxy) Down() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	return p.cut()
}

// Up allows connections again after Down.
func (p *TCPProxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Total returns the number of connections forwarded so far.
func (p *TCPProxy) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}
