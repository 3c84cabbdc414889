package peers

import (
	"io"
	"net"
	"sync"
	"testing"
)

// TCPProxy forwards connections to a target until it is told to cut them.
type TCPProxy struct {
	// Addr is its own host:port, the same for as long as it lives.
	Addr string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool
	total int
	links map[*link]struct{}
}

// link is one forwarded connection: both its ends.
type link struct{ near, far net.Conn }

func (l *link) cut() {
	for _, c := range []net.Conn{l.near, l.far} {
		if c == nil {
			continue
		}
		// A reset, not a polite end: what a dying network looks like.
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Proxy starts a proxy in front of target (host:port) on a free port of
// 127.0.0.1. It ends with the test.
func Proxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("open proxy listener: %v", err)
	}
	p := &TCPProxy{Addr: l.Addr().String(), target: target, listener: l, links: make(map[*link]struct{})}
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
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(near) })
	}
}

func (p *TCPProxy) forward(near net.Conn) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		(&link{near: near}).cut()
		return
	}
	far, err := net.DialTimeout("tcp", p.target, patience)
	if err != nil {
		(&link{near: near}).cut()
		return
	}
	l := &link{near: near, far: far}
	if !p.add(l) {
		l.cut()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pipe(far, near) })
	both.Go(func() { pipe(near, far) })
	both.Wait()
	_ = near.Close()
	_ = far.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pipe copies one direction and passes its end on.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
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

// Cut resets all connections of the moment and returns how many; new ones pass.
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

// Down resets all connections, and every new one, until Up: a network that is
// away.
func (p *TCPProxy) Down() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	return p.cut()
}

// Up lets connections pass again.
func (p *TCPProxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Total is how many connections were forwarded so far.
func (p *TCPProxy) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}
