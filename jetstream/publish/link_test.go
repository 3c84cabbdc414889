package publish_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
)

func TestPublisherLink(t *testing.T) {
	t.Parallel()
	t.Run("silent server does not block callers", testSilentServerDoesNotBlockCallers)
	t.Run("reconnect before handover is no error", testReconnectBeforeHandoverIsNoError)
}

// nats.go dials and waits for INFO under the lock that IsConnected and LastError need. Here that
// takes longer than the test waits.
func testSilentServerDoesNotBlockCallers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if conn, err := listener.Accept(); err == nil {
			accepted <- conn
		}
	}()
	s := natstest.StartServer(t, nil)
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{
				URL:            s.URL() + ",nats://" + listener.Addr().String(),
				ConnectTimeout: 10 * testrun.Timeout, ReconnectWait: time.Millisecond,
			}, append([]nats.Option{nats.DontRandomize()}, extra...)...)
		},
		Settler: natstest.NewOutcomes(t), Log: zerolog.Nop(),
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Stats().Connected }, testrun.Timeout, time.Millisecond)
	s.Close()
	var silent net.Conn
	select {
	case silent = <-accepted:
		require.NotNil(t, silent)
	case <-time.After(testrun.Timeout):
		require.Fail(t, "no attempt")
	}
	answered := make(chan publish.Stats)
	go func() {
		p.Publish(&bridge.Message{Subject: []byte("tenant.a.device.b.telemetry"), ID: []byte("1")})
		answered <- p.Stats()
	}()
	select {
	case stats := <-answered:
		require.False(t, stats.Connected)
		require.Equal(t, 1, stats.Unsettled)
		require.Contains(t, stats.Problem, "not connected")
	case <-time.After(testrun.Timeout):
		require.Fail(t, "Stats waits for the server")
	}
	require.NoError(t, listener.Close())
	require.NoError(t, silent.Close())
	p.Close()
}

// nats.go would resolve the server's name under the same lock, before it dials. Not parallel: the
// resolver is global.
func TestPublisherLinkSilentNameServer(t *testing.T) {
	var silent atomic.Bool
	asked, release := make(chan struct{}, 1), make(chan struct{})
	system := net.DefaultResolver
	defer func() { net.DefaultResolver = system }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		if silent.Load() {
			select {
			case asked <- struct{}{}:
			default:
			}
			<-release
		}
		return nil, errors.New("no name server")
	}}
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{URL: "nats://nats.test:4222", ReconnectWait: time.Millisecond}, extra...)
		},
		Settler: natstest.NewOutcomes(t), Log: zerolog.Nop(),
	})
	require.NoError(t, err)
	silent.Store(true)
	select {
	case <-asked:
	case <-time.After(testrun.Timeout):
		require.Fail(t, "no attempt")
	}
	answered := make(chan publish.Stats, 1)
	go func() {
		p.Publish(&bridge.Message{Subject: []byte("tenant.a.device.b.telemetry"), ID: []byte("1")})
		answered <- p.Stats()
	}()
	select {
	case stats := <-answered:
		require.Equal(t, 1, stats.Unsettled)
		require.False(t, stats.Connected)
	case <-time.After(testrun.Timeout):
		t.Error("Stats waits for the name server")
	}
	close(release)
	p.Close()
}

// A server of a cluster that is about to stop accepts a connection and ends it, and nats.go
// immediately tries the next one. All of that may happen before Connect returns.
func testReconnectBeforeHandoverIsNoError(t *testing.T) {
	t.Parallel()
	first, second := natstest.StartServer(t, nil), natstest.StartServer(t, nil)
	o := natstest.NewOutcomes(t)
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			handled := make(chan struct{}) // the handlers of the reconnect have run
			var once sync.Once
			last := func(o *nats.Options) error {
				before := o.ReconnectedCB
				o.ReconnectedCB = func(nc *nats.Conn) {
					if before != nil {
						before(nc)
					}
					once.Do(func() { close(handled) })
				}
				return nil
			}
			nc, err := conn.Connect(conn.Options{URL: first.URL() + "," + second.URL(), ReconnectWait: time.Millisecond},
				append(append([]nats.Option{nats.DontRandomize()}, extra...), last)...)
			if err == nil {
				first.Close()
				natstest.Receive(t, "the handlers", handled)
				require.Equal(t, second.URL(), nc.ConnectedUrl())
			}
			return nc, err
		},
		Settler: o, Log: zerolog.Nop(),
	})
	require.NoError(t, err)
	defer p.Close()
	require.Eventually(t, func() bool { return p.Stats().Connected }, testrun.Timeout, time.Millisecond)
	stream(t, natstest.JetStream(t, second))
	p.Publish(new(numbered).message(0))
	require.NoError(t, o.Wait(1)[0].Refused)
}
