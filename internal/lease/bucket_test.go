package lease

import (
	"context"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
)

func follow(t *testing.T, b *Bucket) <-chan Entry {
	ctx, cancel := context.WithCancel(context.Background())
	entries, ended := make(chan Entry), make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Follow(ctx, entries)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return entries
}

func next(t *testing.T, entries <-chan Entry) Entry {
	t.Helper()
	select {
	case e := <-entries:
		return e
	case <-time.After(testrun.Timeout):
		require.Fail(t, "nothing came")
		return Entry{}
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	t.Run("keys behave as a store requires", testKeysBehaveAsAStoreRequires)
	t.Run("bucket without TTL is refused", testBucketWithoutTTLIsRefused)
	t.Run("coordinators share a bucket", testCoordinatorsShareABucket)
}

func testKeysBehaveAsAStoreRequires(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	nc := js.Conn()
	const ttl = time.Minute
	o := BucketOptions{NATS: nc, JS: js, Name: "LANES", Stem: "bridge", TTL: ttl, Replicas: 1}
	_, err := NewBucket(o).Open(natstest.Context(t))
	var missing *MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, MissingError{"LANES", ttl, 1}, *missing)
	o.Create = true
	a := NewBucket(o)
	lifetime, err := a.Open(natstest.Context(t))
	require.NoError(t, err)
	require.Equal(t, ttl, lifetime)
	entries := follow(t, a)
	require.True(t, next(t, entries).Listed, "nothing was there")

	_, err = a.Read(natstest.Context(t), "p3")
	require.ErrorIs(t, err, ErrAbsent)
	first, err := a.Write(natstest.Context(t), "p3", []byte("one"), 0)
	require.NoError(t, err)
	require.Equal(t, Entry{Key: "p3", Value: []byte("one"), Revision: first}, next(t, entries))
	_, err = a.Write(natstest.Context(t), "p3", []byte("two"), 0)
	require.ErrorIs(t, err, ErrChanged, "it is there already")
	second, err := a.Write(natstest.Context(t), "p3", []byte("two"), first)
	require.NoError(t, err)
	_, err = a.Write(natstest.Context(t), "p3", []byte("three"), first)
	require.ErrorIs(t, err, ErrChanged)
	next(t, entries)

	// Another fleet in the same bucket, with a TTL of its own mind.
	o.Stem, o.TTL = "other", time.Hour
	b := NewBucket(o)
	lifetime, err = b.Open(natstest.Context(t))
	require.NoError(t, err)
	require.Equal(t, ttl, lifetime, "the bucket's")
	theirs := follow(t, b)
	require.True(t, next(t, theirs).Listed, "nothing of the other fleet")
	_, err = b.Put(natstest.Context(t), "replica.x", []byte("{}"))
	require.NoError(t, err)
	require.Equal(t, "replica.x", next(t, theirs).Key)

	// What is there comes first when it is followed again.
	entries = follow(t, a)
	require.Equal(t, Entry{Key: "p3", Value: []byte("two"), Revision: second}, next(t, entries))
	require.True(t, next(t, entries).Listed)

	const briefTTL = 2 * time.Second
	o.Name, o.TTL = "BRIEF", briefTTL
	brief := NewBucket(o)
	_, err = brief.Open(natstest.Context(t))
	require.NoError(t, err)
	written := time.Now()
	_, err = brief.Write(natstest.Context(t), "p3", []byte("one"), 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := brief.Write(natstest.Context(t), "p3", []byte("another's"), 0)
		return err == nil
	}, testrun.Timeout, 10*time.Millisecond, "it expires")
	require.GreaterOrEqual(t, time.Since(written), briefTTL, "and not before its time")
	t.Logf("with a TTL of %v the key could be had after %v", briefTTL, time.Since(written))

	nc.Close()
	_, err = a.Write(natstest.Context(t), "p3", nil, 0)
	require.ErrorIs(t, err, conn.ErrDisconnected)
	_, err = a.Open(natstest.Context(t))
	require.ErrorIs(t, err, conn.ErrDisconnected)
}

func testBucketWithoutTTLIsRefused(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	nc := js.Conn()
	_, err := js.CreateKeyValue(natstest.Context(t), natsjs.KeyValueConfig{Bucket: "LANES"})
	require.NoError(t, err)
	_, err = NewBucket(BucketOptions{NATS: nc, JS: js, Name: "LANES", Stem: "bridge", Create: true, TTL: ttl}).Open(natstest.Context(t))
	require.ErrorContains(t, err, "the bucket LANES has a TTL of 0s")
	require.ErrorAs(t, err, new(*TTLError))
}

// The coordinator over the real thing: the rest of its tests are under virtual time.
func testCoordinatorsShareABucket(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	nc := js.Conn()
	w := newWorld(t)
	start := func(name string) *replica {
		r := &replica{lanes: &lanes{name: name, broker: w.broker, open: map[string]*Lease{}, sessions: map[string]bool{}}}
		r.Coordinator = Open(Options{
			Store: NewBucket(BucketOptions{NATS: nc, JS: js, Name: "LANES", Stem: "bridge", Create: true, TTL: 10 * time.Second, Replicas: 1}),
			Lanes: r.lanes, Partitions: sixteen, DrainTimeout: time.Second, Log: zerolog.Nop(),
			Replica: Replica{ID: name, Host: "h"},
		})
		return r
	}
	held := func(want map[string]int) {
		t.Helper()
		require.Eventually(t, func() bool {
			n := map[string]int{}
			w.broker.mu.Lock()
			defer w.broker.mu.Unlock()
			for _, l := range w.broker.connected {
				n[l.name]++
			}
			for name := range want {
				if n[name] != want[name] {
					return false
				}
			}
			return len(n) == len(want)
		}, testrun.Timeout, 5*time.Millisecond)
	}
	a := start("a")
	held(map[string]int{"a": 16})
	b, c := start("b"), start("c")
	held(map[string]int{"a": 6, "b": 5, "c": 5})
	// The bucket goes, and with it all leases: they are written again.
	require.NoError(t, js.DeleteKeyValue(natstest.Context(t), "LANES"))
	require.Eventually(t, func() bool {
		kv, err := js.KeyValue(natstest.Context(t), "LANES")
		if err != nil {
			return false
		}
		keys, err := kv.Keys(natstest.Context(t))
		return err == nil && len(keys) == 16+3
	}, testrun.Timeout, 50*time.Millisecond)
	held(map[string]int{"a": 6, "b": 5, "c": 5})
	require.Zero(t, b.Close(t.Context()))
	held(map[string]int{"a": 8, "c": 8})
	require.Zero(t, w.broker.takeovers)
	require.Zero(t, a.Close(t.Context()))
	require.Zero(t, c.Close(t.Context()))
}
