package peers

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/testrun"
)

// TCPProxy forwards connections to a target until it is told to cut them, or to
// treat them badly.
//
// Why not github.com/Shopify/toxiproxy/v2 as a library: v2.12.0 does not survive
// what the tests here do to it. A client that resets its connection while the
// other side sends (a killed bridge) leaves two goroutines forever, 82 after 100
// such clients; and a toxic added at that moment waits for them, so that the proxy
// stands still from then on (seen at the second of 200 tries). Its links go
// through three channels a chunk, and a reset of the connections of the moment, on
// the same port, is not to be had.
type TCPProxy struct {
	// Addr is its own host:port, the same for as long as it lives.
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

// Impairment is what a link does to the bytes that go one way. The zero value
// forwards them immediately.
type Impairment struct {
	// Vanish swallows them. What comes later on a connection that lost bytes
	// is swallowed too, even without impairment, until it ends: half of the
	// link is gone, as when a firewall forgets a connection. New
	// connections are carried once the impairment ends.
	Vanish bool
	// Hold keeps them back, and the sender's socket buffer fills: a network
	// that is unreachable for so short a time that TCP outlives it.
	Hold bool
	// Latency delays them, a buffer of 32 KiB at a time.
	Latency time.Duration
	// Rate lets so many bytes per second pass; 0: all. At a low rate this is a
	// peer that reads slowly.
	Rate int
}

// The two ways of a link, from the side of who dials it.
const (
	towards = iota
	back
)

// link is one forwarded connection: both its ends.
type link struct {
	near, far net.Conn
	ended     chan struct{}
}

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
	if l.ended != nil {
		close(l.ended)
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
	far, err := net.DialTimeout("tcp", p.target, testrun.Timeout)
	if err != nil {
		(&link{near: near}).cut()
		return
	}
	l := &link{near: near, far: far, ended: make(chan struct{})}
	if !p.add(l) {
		l.cut()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pipe(l, far, near, towards) })
	both.Go(func() { p.pipe(l, near, far, back) })
	both.Wait()
	_ = near.Close()
	_ = far.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pipe copies one way and passes its end on.
func (p *TCPProxy) pipe(l *link, to, from net.Conn, way int) {
	err := p.copy(l, to, from, way)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}

// copy returns nil at the end of from. Where bytes were swallowed the end is too:
// it returns when the link is cut.
func (p *TCPProxy) copy(l *link, to, from net.Conn, way int) error {
	buf := make([]byte, 32<<10)
	dead := false
	for {
		w, changed := p.now(way)
		if w.Hold && !dead {
			select {
			case <-changed:
			case <-l.ended:
				return net.ErrClosed
			}
			continue
		}
		piece := buf
		if w.Rate > 0 {
			piece = buf[:min(len(buf), max(w.Rate/20, 1))]
		}
		n, err := from.Read(piece)
		// It may have turned while nothing came.
		if n > 0 && !dead {
			if w, err := p.await(l, way); err != nil {
				return err
			} else if dead = w.Vanish; !dead {
				pause := w.Latency
				if w.Rate > 0 {
					pause += time.Duration(n) * time.Second / time.Duration(w.Rate)
				}
				if !l.sleep(pause) {
					return net.ErrClosed
				}
				if _, err := to.Write(piece[:n]); err != nil {
					return err
				}
			}
		}
		switch {
		case err != nil && dead: // nobody hears of that end either
			<-l.ended
			return net.ErrClosed
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (p *TCPProxy) now(way int) (Impairment, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.impairments[way], p.changed
}

// await returns the impairment once bytes may move.
func (p *TCPProxy) await(l *link, way int) (Impairment, error) {
	for {
		w, changed := p.now(way)
		if !w.Hold {
			return w, nil
		}
		select {
		case <-changed:
		case <-l.ended:
			return w, net.ErrClosed
		}
	}
}

// sleep lets d pass. False: the link was cut before that.
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

// Impair sets what becomes of bytes towards the target and of those that come
// back, on the connections of the moment and on new ones.
func (p *TCPProxy) Impair(towardsTarget, fromTarget Impairment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.impairments = [2]Impairment{towards: towardsTarget, back: fromTarget}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Mend undoes Impair; connections that lost bytes stay dead.
func (p *TCPProxy) Mend() { p.Impair(Impairment{}, Impairment{}) }

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
// gone.
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
