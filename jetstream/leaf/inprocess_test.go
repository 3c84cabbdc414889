package leaf

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

// settled counts the settled messages of a publisher.
type settled struct{ stored, duplicate, refused atomic.Int64 }

func (s *settled) Settle(r *bridge.Result) {
	switch {
	case r.Refused != nil:
		s.refused.Add(1)
	case r.Duplicate:
		s.duplicate.Add(1)
	}
	s.stored.Add(1)
}

func (s *settled) SettleDone() {}

// An in-process connection has no socket, but it can end like one: for instance if the server
// considers it a slow consumer. It is counted and its answers are read like those of a dialled
// connection.
func TestInProcessConnectionLoss(t *testing.T) {
	t.Parallel()
	l, err := Open(t.Context(), Options{
		URLs: "nats-leaf://127.0.0.1:1", Domain: "site-a", StoreDir: t.TempDir(), MaxBytes: 1 << 30, MaxPayload: 1 << 20,
		SyncInterval: time.Minute, DuplicateWindow: time.Minute, Streams: []streams.Spec{{Name: "T", Subjects: []string{"t.>"}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	s := &settled{}
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{Name: "cut me"}, extra...)
		},
		InProcess: l.InProcess(), Settler: s,
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	const n, cuts = 20_000, 5
	for i := range n {
		if i%(n/cuts) == n/cuts/2 {
			disconnect(t, l, "cut me")
		}
		p.Publish(&bridge.Message{Token: uint64(i), Subject: []byte("t.x"), ID: []byte("id-" + strconv.Itoa(i)), Payload: []byte(strconv.Itoa(i))})
	}
	require.Eventually(t, func() bool { return s.stored.Load() == n }, testrun.Timeout, 5*time.Millisecond)
	require.Zero(t, s.refused.Load())
	require.EqualValues(t, cuts+1, p.Stats().Connects)
	require.Positive(t, p.Stats().Recoveries)
	stream, err := l.js.Stream(t.Context(), "T")
	require.NoError(t, err)
	state := stream.CachedInfo().State
	require.EqualValues(t, n, state.Msgs)
	for i := range n {
		m, err := stream.GetMsg(t.Context(), state.FirstSeq+uint64(i))
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), string(m.Data))
	}
}

func disconnect(t *testing.T, l *Leaf, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := l.server.NATS().Connz(&natsd.ConnzOptions{})
		require.NoError(t, err)
		for _, c := range all.Conns {
			if c.Name == name {
				return l.server.NATS().DisconnectClientByID(c.Cid) == nil
			}
		}
		return false
	}, testrun.Timeout, time.Millisecond)
}
