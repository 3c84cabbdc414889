package publish_test

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
)

// publisher returns a publisher under test with adjusted options.
func publisher(t *testing.T, url string, o *natstest.Outcomes, adjust ...func(*publish.Options)) *publish.Publisher {
	t.Helper()
	opts := publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{URL: url, Name: t.Name(), ReconnectWait: 5 * time.Millisecond}, extra...)
		},
		Settler:    o,
		AckTimeout: testrun.Timeout, // a slow machine must not cause an error
	}
	for _, f := range adjust {
		f(&opts)
	}
	p, err := publish.Open(opts)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// numbered returns a message whose token, id and payload are n, in buffers that the next call
// overwrites.
type numbered struct {
	payload, id []byte
}

func (b *numbered) message(n int) *bridge.Message {
	b.payload = strconv.AppendInt(b.payload[:0], int64(n), 10)
	b.id = append(append(b.id[:0], "id-"...), b.payload...)
	return &bridge.Message{Token: uint64(n), Subject: []byte("t.x"), ID: b.id, Payload: b.payload}
}

// stream declares a stream for t.> with an adjusted configuration.
func stream(t *testing.T, js natsjs.JetStream, adjust ...func(*natsjs.StreamConfig)) natsjs.Stream {
	t.Helper()
	c := natsjs.StreamConfig{Name: "T", Subjects: []string{"t.>"}, Storage: natsjs.FileStorage, Duplicates: 10 * time.Minute}
	for _, f := range adjust {
		f(&c)
	}
	s, err := js.CreateOrUpdateStream(natstest.Context(t), c)
	require.NoError(t, err)
	return s
}

// requireExactly asserts that the stream contains the messages 0 to n-1, once each and in that
// order.
func requireExactly(t *testing.T, s natsjs.Stream, n int) {
	t.Helper()
	info, err := s.Info(natstest.Context(t))
	require.NoError(t, err)
	consumer, err := s.OrderedConsumer(natstest.Context(t), natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	it, err := consumer.Messages()
	require.NoError(t, err)
	defer it.Stop()
	missing, wrong := n, 0
	for i := range int(info.State.Msgs) {
		m, err := it.Next(natsjs.NextContext(natstest.Context(t)))
		require.NoError(t, err)
		missing--
		if string(m.Data()) != strconv.Itoa(i) {
			wrong++
			if wrong <= 5 {
				t.Logf("message %d of the stream is %s", i, m.Data())
			}
		}
	}
	require.Zero(t, wrong, "out of order, lost or stored twice")
	require.Zero(t, missing)
}

// load publishes numbered messages until stop is closed, with a bound on unsettled ones, and
// returns their number once all are stored. pulse, of capacity 1, gets a value after each thousand.
func load(t *testing.T, p *publish.Publisher, o *natstest.Outcomes, stop <-chan struct{}, pulse chan struct{}) (sent int) {
	t.Helper()
	var b numbered
	settled := 0
	for {
		select {
		case <-stop:
			for _, x := range o.Wait(sent - settled) {
				require.NoError(t, x.Refused)
			}
			return sent
		default:
		}
		if sent-settled >= 4000 {
			x := natstest.Receive(t, "a result", o.Results)
			require.NoError(t, x.Refused)
			settled++
		}
		p.Publish(b.message(sent))
		if sent++; sent%1000 == 0 {
			select {
			case pulse <- struct{}{}:
			default:
			}
		}
	}
}

// cutter is a TCP proxy that cuts its connections.
type cutter struct {
	t        *testing.T
	listener net.Listener
	target   string
	wg       sync.WaitGroup
	cuts     chan struct{} // one value per cut by the budget

	mu     sync.Mutex
	conns  map[net.Conn]bool
	budget int64 // bytes to the server until the next cut; negative: none
	closed bool
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{t: t, listener: l, target: target, conns: map[net.Conn]bool{}, budget: -1, cuts: make(chan struct{}, 1000)}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		l.Close()
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) url() string { return "nats://" + c.listener.Addr().String() }

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			client.Close()
			continue
		}
		c.mu.Lock()
		if c.closed {
			client.Close()
			server.Close()
		}
		c.conns[client], c.conns[server] = true, true
		c.mu.Unlock()
		c.wg.Go(func() { c.pipe(server, client, true) })
		c.wg.Go(func() { c.pipe(client, server, false) })
	}
}

func (c *cutter) pipe(to, from net.Conn, counted bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		cut := false
		if counted {
			n, cut = c.spend(n)
		}
		if n > 0 {
			to.Write(buf[:n])
		}
		if cut {
			c.cut()
			c.cuts <- struct{}{}
		}
		if err != nil || cut {
			break
		}
	}
	to.Close()
	from.Close()
	c.mu.Lock()
	delete(c.conns, to)
	delete(c.conns, from)
	c.mu.Unlock()
}

// spend takes n bytes off the budget and returns how many may pass before the cut.
func (c *cutter) spend(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget < 0 {
		return n, false
	}
	if int64(n) < c.budget {
		c.budget -= int64(n)
		return n, false
	}
	n, c.budget = int(c.budget), -1
	return n, true
}

// cutWithin cuts at a random byte of the next ones to the server, which is usually in the middle of
// a message.
func (c *cutter) cutWithin(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = rand.Int64N(bytes)
}

// cut closes all connections now and discards the data in them.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}
