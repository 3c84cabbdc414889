package mqtt

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// claimed is a client id that another client may have by now.
type claimed struct {
	asked  chan struct{} // one token per question
	grants chan struct{}
	fenced atomic.Bool
}

func newClaimed() *claimed {
	return &claimed{asked: make(chan struct{}, 100), grants: make(chan struct{})}
}

func (c *claimed) WaitToConnect(ctx context.Context) error {
	c.asked <- struct{}{}
	select {
	case <-c.grants:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *claimed) Fenced() bool { return c.fenced.Load() }

func TestClaim(t *testing.T) {
	t.Parallel()
	t.Run("session reconnects only with permission", testSessionReconnectsOnlyWithPermission)
	t.Run("fenced connection delivers nothing", testFencedConnectionDeliversNothing)
	t.Run("Close ends wait of fenced connection", testCloseEndsWaitOfFencedConnection)
}

func testSessionReconnectsOnlyWithPermission(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		c := newClaimed()
		s := b.open(&recorder{}, func(o *Options) { o.Claim = c })
		p := b.connected(false)
		require.Empty(t, c.asked, "the claim covers the first connection")
		p.Close()
		<-c.asked
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, b.conns, "no connection without permission")
		require.Contains(t, s.Status().Problem, ErrClosedByBroker.Error())
		require.Empty(t, c.asked, "it is asked once")
		c.grants <- struct{}{}
		p = b.connected(true)
		eventually(t, s, subscribed)
		p.Close()
		<-c.asked
		s.Close() // ends the wait
		synctest.Wait()
		require.Empty(t, b.conns)
	})
}

func testFencedConnectionDeliversNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, r := newClaimed(), &recorder{ack: true}
		conn := &memConn{chunks: [][]byte{connackNew, publish("a", 1, nil), publish("b", 2, nil)}}
		reads := 0
		conn.onRead = func() {
			if reads++; reads == 3 {
				c.fenced.Store(true) // the process stood still in this read
			}
		}
		tp := newTap(conn, &Options{Receiver: r, Claim: c})
		done := make(chan error)
		go func() { _, err := readAll(tp); done <- err }()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, r.deliveries(), 1)
		c.fenced.Store(false)
		require.Equal(t, io.EOF, <-done)
		require.Len(t, r.deliveries(), 2)
		requireLife(t, tp, r.all())
	})
}

func testCloseEndsWaitOfFencedConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, r := newClaimed(), &recorder{}
		conn := &memConn{chunks: [][]byte{connackNew, publish("a", 1, nil)}}
		reads := 0
		conn.onRead = func() {
			if reads++; reads == 2 {
				c.fenced.Store(true)
			}
		}
		tp := newTap(conn, &Options{Receiver: r, Claim: c})
		done := make(chan struct{})
		go func() { _, _ = readAll(tp); close(done) }()
		synctest.Wait()
		require.NoError(t, tp.Close())
		<-done
		require.Empty(t, r.deliveries())
		requireLife(t, tp, r.all())
	})
}
