package kv_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/kv"
)

// shelf is a Reader that stores all entries.
type shelf struct {
	mu      sync.Mutex
	coming  map[string]string // nil: the last reading is complete
	entries map[string]string
	reads   int
}

func (s *shelf) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming = map[string]string{}
}

func (s *shelf) at() map[string]string {
	if s.coming != nil {
		return s.coming
	}
	return s.entries
}

func (s *shelf) Put(key string, value []byte, _ uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at()[key] = string(value)
}

func (s *shelf) Delete(key string, _ uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at(), key)
}

func (s *shelf) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.coming != nil {
		s.entries, s.coming = s.coming, nil
		s.reads++
	}
}

func (s *shelf) has(want map[string]string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.entries != nil && maps.Equal(s.entries, want)
	}
}

// followed is a bucket that is followed until the test ends.
type followed struct {
	*kv.Bucket
	*shelf
	t      *testing.T
	states chan kv.State
}

func follow(t *testing.T, o conn.Options, name string) *followed {
	t.Helper()
	return followProbing(t, o, name, 100*time.Millisecond)
}

func followProbing(t *testing.T, o conn.Options, name string, probe time.Duration) *followed {
	t.Helper()
	f := &followed{shelf: &shelf{}, t: t, states: make(chan kv.State, 1000)}
	var denied conn.Violations
	o.Hooks.Error = func(_ *nats.Conn, err error) { denied.Note(err) }
	var nc *nats.Conn
	ready := make(chan struct{})
	hook := o.Hooks.Error
	o.Hooks.Error = func(c *nats.Conn, err error) {
		<-ready
		hook(c, err)
	}
	nc, err := conn.Connect(o)
	require.NoError(t, err)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	f.Bucket = kv.NewBucket(kv.Options{
		Conn: nc, JetStream: js, Name: name, Reader: f.shelf, Denied: &denied, Probe: probe,
		Changed: func(s kv.State) { f.states <- s },
	})
	close(ready)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		natstest.Receive(t, "the end of Run", done)
		nc.Close()
	})
	return f
}

func (f *followed) await(what string, done func() bool) {
	f.t.Helper()
	require.Eventually(f.t, done, testrun.Timeout, 5*time.Millisecond, what)
}

func (f *followed) awaitHeld(want map[string]string) {
	f.t.Helper()
	defer func() {
		if f.t.Failed() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Logf("it contains %v, %d readings, %+v", f.entries, f.reads, f.State())
		}
	}()
	f.await(fmt.Sprint(want), f.has(want))
}

// awaitState waits for a matching state and returns it.
func (f *followed) awaitState(is func(kv.State) bool) kv.State {
	f.t.Helper()
	var s kv.State
	f.await("state", func() bool {
		s = f.State()
		return is(s)
	})
	return s
}

func live(s kv.State) bool  { return s.Live }
func stale(s kv.State) bool { return !s.Live && s.Err != nil }

func newBucket(t *testing.T, js natsjs.JetStream, name string) natsjs.KeyValue {
	t.Helper()
	kv, err := js.CreateKeyValue(natstest.Context(t), natsjs.KeyValueConfig{Bucket: name, Storage: natsjs.FileStorage})
	require.NoError(t, err)
	return kv
}

func put(t *testing.T, kv natsjs.KeyValue, key, value string) {
	t.Helper()
	_, err := kv.PutString(natstest.Context(t), key, value)
	require.NoError(t, err)
}

func TestBucket(t *testing.T) {
	t.Parallel()
	t.Run("entries are read once and then followed", testEntriesAreReadOnceAndThenFollowed)
	t.Run("empty bucket is live", testEmptyBucketIsLive)
	t.Run("missing or deleted bucket is awaited", testMissingOrDeletedBucketIsAwaited)
	t.Run("since is start of current condition", testSinceIsStartOfCurrentCondition)
	t.Run("recreated bucket is read again", testRecreatedBucketIsReadAgain)
	t.Run("changes while disconnected are seen", testChangesWhileDisconnectedAreSeen)
	t.Run("lost consumer is noticed", testLostConsumerIsNoticed)
	t.Run("large bucket is read completely", testLargeBucketIsReadCompletely)
	t.Run("bucket without last message is read once", testBucketWithoutLastMessageIsReadOnce)
	t.Run("non-bucket stream is reported", testNonBucketStreamIsReported)
	t.Run("TTL change is noticed", testTTLChangeIsNoticed)
}

func testEntriesAreReadOnceAndThenFollowed(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	kv := newBucket(t, natstest.JetStream(t, s), "B")
	put(t, kv, "a", "1")
	put(t, kv, "b", "1")
	put(t, kv, "b", "2")
	put(t, kv, "c", "1")
	require.NoError(t, kv.Delete(natstest.Context(t), "c"))
	// If an entry takes longer than one interval, a probe reads the bucket again.
	f := followProbing(t, conn.Options{URL: s.URL()}, "B", time.Hour)
	f.awaitHeld(map[string]string{"a": "1", "b": "2"})
	put(t, kv, "d", "4")
	require.NoError(t, kv.Delete(natstest.Context(t), "a"))
	require.NoError(t, kv.Purge(natstest.Context(t), "b"))
	f.awaitHeld(map[string]string{"d": "4"})
	state := f.awaitState(live)
	require.False(t, state.LoadedAt.IsZero())
	require.False(t, state.ChangedAt.IsZero())
	require.Equal(t, 1, f.reads, "nothing was read twice")
}

func testEmptyBucketIsLive(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	newBucket(t, natstest.JetStream(t, s), "B")
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitHeld(map[string]string{})
	f.awaitState(live)
}

func testMissingOrDeletedBucketIsAwaited(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	state := f.awaitState(func(s kv.State) bool { return s.Missing() })
	require.EqualError(t, state.Err, "the bucket does not exist")
	require.Zero(t, state.LoadedAt)
	bucket := newBucket(t, js, "B")
	for i := range 20 {
		put(t, bucket, "a", fmt.Sprint(i))
	}
	f.awaitHeld(map[string]string{"a": "19"})

	require.NoError(t, js.DeleteKeyValue(natstest.Context(t), "B"))
	f.awaitState(func(s kv.State) bool { return s.Missing() && !s.Live })
	require.True(t, f.has(map[string]string{"a": "19"})(), "the last known state remains in use")
	// Its sequences restart below those of the old bucket.
	bucket = newBucket(t, js, "B")
	put(t, bucket, "b", "1")
	f.awaitHeld(map[string]string{"b": "1"})
	put(t, bucket, "b", "2")
	f.awaitHeld(map[string]string{"b": "2"})
}

// A missing bucket and an unreachable server are two conditions.
func testSinceIsStartOfCurrentCondition(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitState(kv.State.Missing)
	stopped := time.Now()
	s.Close()
	state := f.awaitState(func(s kv.State) bool { return errors.Is(s.Err, conn.ErrDisconnected) })
	require.False(t, state.Since.Before(stopped), "since %s, the server was stopped at %s", state.Since, stopped)
}

// The bucket is deleted and created again between two checks: only the stream's creation time
// reveals it.
func testRecreatedBucketIsReadAgain(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	kv := newBucket(t, js, "B")
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	for i := range 10 {
		put(t, kv, "a", fmt.Sprint(i))
	}
	f.awaitHeld(map[string]string{"a": "9"})
	require.NoError(t, js.DeleteKeyValue(natstest.Context(t), "B"))
	kv = newBucket(t, js, "B")
	put(t, kv, "b", "1")
	f.awaitHeld(map[string]string{"b": "1"})
}

// A deletion during a lost connection is detected by the missing key.
func testChangesWhileDisconnectedAreSeen(t *testing.T) {
	t.Parallel()
	n := peers.NATSServer(t, peers.NATSOptions{})
	proxy := peers.Proxy(t, n.Addr)
	direct, err := nats.Connect(n.URL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(direct.Close)
	js, err := natsjs.New(direct)
	require.NoError(t, err)
	kv := newBucket(t, js, "B")
	put(t, kv, "stays", "1")
	put(t, kv, "goes", "1")
	f := follow(t, conn.Options{URL: "nats://" + proxy.Addr}, "B")
	f.awaitHeld(map[string]string{"stays": "1", "goes": "1"})

	proxy.Cut()
	require.NoError(t, kv.Purge(natstest.Context(t), "goes"))
	require.NoError(t, kv.PurgeDeletes(natstest.Context(t), natsjs.DeleteMarkersOlderThan(-1)))
	f.awaitHeld(map[string]string{"stays": "1"})

	// The server is not killed: nats-server 2.15.2 would restore recently purged messages.
	n.Stop()
	f.awaitState(stale)
	require.True(t, f.has(map[string]string{"stays": "1"})(), "the last known state remains in use")
	n.Start()
	f.awaitState(live)
	f.await("the connection of the test", direct.IsConnected)
	put(t, kv, "new", "1")
	f.awaitHeld(map[string]string{"stays": "1", "new": "1"})
}

// The server loses a consumer; nats.go alone would notice after 10 s.
func testLostConsumerIsNoticed(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	kv := newBucket(t, js, "B")
	put(t, kv, "a", "1")
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitHeld(map[string]string{"a": "1"})
	stream, err := js.Stream(natstest.Context(t), "KV_B")
	require.NoError(t, err)
	for name := range stream.ConsumerNames(natstest.Context(t)).Name() {
		require.NoError(t, stream.DeleteConsumer(natstest.Context(t), name))
	}
	put(t, kv, "a", "2")
	f.awaitHeld(map[string]string{"a": "2"})
}

func testLargeBucketIsReadCompletely(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	kv := newBucket(t, js, "B")
	want := map[string]string{}
	for i := range 5000 {
		key := fmt.Sprintf("k%d", i)
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: "$KV.B." + key, Data: []byte("v")}, natsjs.WithStallWait(testrun.Timeout))
		require.NoError(t, err)
		want[key] = "v"
	}
	natstest.Receive(t, "the answers", js.PublishAsyncComplete())
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitHeld(want)
	_ = kv
}

// nats kv compact removes the markers of deleted keys, and with them possibly the last message.
func testBucketWithoutLastMessageIsReadOnce(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	kv := newBucket(t, js, "B")
	put(t, kv, "a", "1")
	put(t, kv, "b", "1")
	require.NoError(t, kv.Delete(natstest.Context(t), "b"))
	require.NoError(t, kv.PurgeDeletes(natstest.Context(t), natsjs.DeleteMarkersOlderThan(-1)))
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitHeld(map[string]string{"a": "1"})
	looks, err := js.Conn().SubscribeSync("$JS.API.STREAM.INFO.KV_B")
	require.NoError(t, err)
	for range 5 {
		_, err := looks.NextMsg(testrun.Timeout)
		require.NoError(t, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(t, 1, f.reads)
}

func TestBucketPermissions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(`authorization { users: [
		{ user: admin, password: admin }
		{ user: none, password: none, permissions: { publish: { allow: ["x"] } } }
		{ user: half, password: half, permissions: { publish: { allow: ["$JS.API.STREAM.INFO.KV_B"] } } }
	] }`), 0o600))
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, ConfigFile: file})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	nc, err := nats.Connect(s.URL(), nats.UserInfo("admin", "admin"))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	newBucket(t, js, "B")
	for user, subject := range map[string]string{
		"none": "$JS.API.STREAM.INFO.KV_B", "half": "$JS.API.CONSUMER.CREATE.KV_B.",
	} {
		f := follow(t, conn.Options{URL: s.URL(), User: user, Password: user}, "B")
		state := f.awaitState(func(s kv.State) bool { return errors.Is(s.Err, nats.ErrPermissionViolation) })
		require.ErrorContains(t, state.Err, subject)
	}
}

func testNonBucketStreamIsReported(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	_, err := js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "KV_B", Subjects: []string{"$KV.B.>"}})
	require.NoError(t, err)
	f := follow(t, conn.Options{URL: s.URL()}, "B")
	f.awaitState(func(s kv.State) bool { return s.Err != nil && s.Err.Error() == "stream KV_B is not a KV bucket" })
}

// Not parallel: it looks at all goroutines of the process.
func TestBucketGoroutineLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	func() {
		s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Configure: func(*natsd.Options) {}})
		require.NoError(t, err)
		defer s.Close()
		nc, err := conn.Connect(conn.Options{URL: s.URL()})
		require.NoError(t, err)
		defer nc.Close()
		js, err := natsjs.New(nc)
		require.NoError(t, err)
		bucket := newBucket(t, js, "B")
		for i := range 2000 { // more than the watcher's channel can buffer
			put(t, bucket, fmt.Sprint(i), "x")
		}
		ctx, cancel := context.WithCancel(t.Context())
		began := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			kv.NewBucket(kv.Options{Conn: nc, JetStream: js, Name: "B", Reader: &stuck{began, ctx}}).Run(ctx)
		}()
		natstest.Receive(t, "the first entry", began)
		cancel()
		natstest.Receive(t, "the end of Run", done)
	}()
	goleak.VerifyNone(t, before)
}

// stuck is a reader that blocks at the first entry until the end.
type stuck struct {
	began chan struct{}
	ctx   context.Context
}

func (s *stuck) Begin() {}
func (s *stuck) Put(string, []byte, uint64) {
	select {
	case <-s.began:
	default:
		close(s.began)
	}
	<-s.ctx.Done()
}
func (s *stuck) Delete(string, uint64) {}
func (s *stuck) Done()                 {}

// Leases rely on the TTL, so a follower of the bucket must be informed of a change.
func testTTLChangeIsNoticed(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	newBucket(t, js, "B")
	nc, err := nats.Connect(s.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	read := make(chan struct{}, 1)
	b := kv.NewBucket(kv.Options{Conn: nc, JetStream: js, Name: "B", Reader: reads(read), Probe: 20 * time.Millisecond})
	ended := make(chan error, 1)
	go func() { ended <- b.Follow(natstest.Context(t)) }()
	natstest.Receive(t, "the end of the reading", read)
	stream, err := js.Stream(natstest.Context(t), "KV_B")
	require.NoError(t, err)
	changed := stream.CachedInfo().Config
	changed.MaxAge = time.Hour
	_, err = js.UpdateStream(natstest.Context(t), changed)
	require.NoError(t, err)
	require.ErrorIs(t, natstest.Receive(t, "the end of following", ended), kv.ErrReadAgain)
}

// reads is a reader that reports when the bucket has been read.
type reads chan struct{}

func (reads) Begin()                     {}
func (reads) Put(string, []byte, uint64) {}
func (reads) Delete(string, uint64)      {}
func (r reads) Done() {
	select {
	case r <- struct{}{}:
	default:
	}
}
