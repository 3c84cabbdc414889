package mqtt

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/mqtt/dial"
)

// scripted is a broker that does what the test says, connection by connection.
type scripted struct {
	t     testing.TB
	addr  string
	conns chan net.Conn
	wait  time.Duration // bounds every wait of the script
}

// peer is the broker's end of one connection.
type peer struct {
	net.Conn
	t testing.TB
}

// listen opens a broker on a real socket; tlsConfig nil: plain.
func listen(t testing.TB, tlsConfig *tls.Config) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &scripted{t: t, addr: l.Addr().String(), conns: make(chan net.Conn, 1000), wait: testrun.Timeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if tlsConfig != nil {
				c = tls.Server(c, tlsConfig)
			}
			b.conns <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-done; b.closeAll() })
	return b
}

// memory is the address of a broker that has no socket.
const memory = "memory:1883"

// inMemory is a broker for virtual time: connections without buffers.
func inMemory(t testing.TB) *scripted {
	t.Helper()
	return &scripted{t: t, addr: memory, conns: make(chan net.Conn, 1000), wait: time.Hour}
}

func (b *scripted) dial(context.Context, dial.Server, *dial.Login) (net.Conn, error) {
	near, far := pipe()
	b.conns <- far
	return near, nil
}

func (b *scripted) closeAll() {
	for {
		select {
		case c := <-b.conns:
			c.Close()
		default:
			return
		}
	}
}

// accept waits for the next connection, whatever it says.
func (b *scripted) accept() *peer {
	b.t.Helper()
	select {
	case c := <-b.conns:
		b.t.Cleanup(func() { c.Close() })
		require.NoError(b.t, c.SetDeadline(time.Now().Add(b.wait)))
		return &peer{c, b.t}
	case <-time.After(b.wait):
		require.Fail(b.t, "no connection")
		return nil
	}
}

// connected waits for the next connection and takes it into service.
func (b *scripted) connected(present bool) *peer {
	b.t.Helper()
	p := b.accept()
	p.connack(present)
	p.grant(func(string) byte { return 1 })
	return p
}

func (p *peer) read() packets.ControlPacket {
	p.t.Helper()
	cp, err := packets.ReadPacket(p)
	require.NoError(p.t, err)
	return cp
}

func (p *peer) send(packets ...[]byte) {
	p.t.Helper()
	for _, b := range packets {
		_, err := p.Write(b)
		require.NoError(p.t, err)
	}
}

// connack reads CONNECT and accepts.
func (p *peer) connack(present bool) *packets.ConnectPacket {
	p.t.Helper()
	c, ok := p.read().(*packets.ConnectPacket)
	require.True(p.t, ok)
	if present {
		p.send(connackKept)
	} else {
		p.send(connackNew)
	}
	return c
}

// grant answers the next SUBSCRIBE with a code for each filter.
func (p *peer) grant(code func(filter string) byte) *packets.SubscribePacket {
	p.t.Helper()
	s, ok := p.read().(*packets.SubscribePacket)
	require.True(p.t, ok)
	var codes []byte
	for _, f := range s.Topics {
		codes = append(codes, code(f))
	}
	p.send(suback(s.MessageID, codes...))
	return s
}

// rest reads until the connection ends and returns what came.
func (p *peer) rest() (all []packets.ControlPacket) {
	for {
		cp, err := packets.ReadPacket(p)
		if err != nil {
			return all
		}
		all = append(all, cp)
	}
}

// reset ends the connection with a TCP reset.
func (p *peer) reset() {
	p.t.Helper()
	require.NoError(p.t, p.Conn.(*net.TCPConn).SetLinger(0))
	p.Close()
}

// open starts a session towards b and closes it with the test.
func (b *scripted) open(r *recorder, change ...func(*Options)) *Session {
	b.t.Helper()
	return b.openFor(r, change...)
}

func (b *scripted) openFor(r bridge.Receiver, change ...func(*Options)) *Session {
	b.t.Helper()
	o := Options{
		Servers: []dial.Server{{Address: b.addr}}, ClientID: "bridge-0", Filters: []string{"$share/lane/tenant/+/device/+/+"}, // subscribed on every connection
		Receiver: r, Log: zerolog.Nop(),
	}
	for _, c := range change {
		c(&o)
	}
	by := b.dial
	if b.addr != memory {
		by = dial.Dial
	}
	s, err := open(o, by, func(context.Context, string) dial.Protocol { return "" })
	require.NoError(b.t, err)
	b.t.Cleanup(s.Close)
	return s
}

func pahoDial(c net.Conn) paho.OpenConnectionFunc {
	return func(*url.URL, paho.ClientOptions) (net.Conn, error) { return c, nil }
}

// as is a login with a password.
func as(user, password string) func() (dial.Login, error) {
	return func() (dial.Login, error) { return dial.Login{Username: user, Password: password}, nil }
}

func withTLS(o *Options, conf *tls.Config) {
	o.Servers[0].TLS = true
	o.Login = func() (dial.Login, error) { return dial.Login{TLS: conf}, nil }
}
