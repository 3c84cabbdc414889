package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/kv"
)

const ttl = 10 * time.Second

// memory is a store under virtual time, to which each replica has a link that can
// be cut.
type memory struct {
	mu       sync.Mutex
	revision uint64
	keys     map[string]entryAt
	links    map[*link]struct{}
	ttl      time.Duration // reported lifetime of a key; 0: the constant ttl
}

type entryAt struct {
	Entry
	at time.Time
}

// link is one replica's connection to the store.
type link struct {
	m           *memory
	cut         bool
	frozen      chan struct{} // nil: the process runs
	silent      bool          // requests get no answer
	lostAnswers int           // how many answers to Write get lost
	entries     chan Entry
	end         chan error // a Follow returns it
}

var errCut = errors.New("cut off")

func newMemory() *memory {
	return &memory{keys: map[string]entryAt{}, links: map[*link]struct{}{}}
}

func (m *memory) link() *link { return &link{m: m, end: make(chan error)} }

func (m *memory) live(key string) (Entry, bool) {
	e, ok := m.keys[key]
	return e.Entry, ok && time.Since(e.at) < ttl
}

// unanswered blocks if requests get no answer.
func (l *link) unanswered(ctx context.Context) error {
	l.m.mu.Lock()
	silent := l.silent
	l.m.mu.Unlock()
	if silent {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (l *link) Open(ctx context.Context) (time.Duration, error) {
	if err := l.unanswered(ctx); err != nil {
		return 0, err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.cut {
		return 0, errCut
	}
	return cmp.Or(l.m.ttl, ttl), nil
}

func (l *link) Follow(ctx context.Context, entries chan<- Entry) error {
	mine := make(chan Entry, 10_000) // never full: no test writes that much
	l.m.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(l.m.keys)) {
		if e, ok := l.m.live(key); ok {
			mine <- e
		}
	}
	mine <- Entry{Listed: true}
	l.entries = mine
	l.m.links[l] = struct{}{}
	l.m.mu.Unlock()
	defer func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		if l.entries == mine {
			delete(l.m.links, l)
		}
	}()
	for {
		select {
		case e := <-mine:
			select {
			case entries <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
		case err := <-l.end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *link) setCut(cut bool) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.cut = cut
}

func (l *link) put(key string, value []byte) uint64 {
	m := l.m
	m.revision++
	e := Entry{Key: key, Value: value, Revision: m.revision}
	m.keys[key] = entryAt{e, time.Now()}
	for to := range m.links {
		if !to.cut {
			to.entries <- e
		}
	}
	return m.revision
}

func (l *link) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := l.unanswered(ctx); err != nil {
		return 0, err
	}
	l.m.mu.Lock()
	frozen := l.frozen
	l.m.mu.Unlock()
	if frozen != nil { // a frozen process sees no deadline
		<-frozen
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.cut {
		return 0, errCut
	}
	return l.put(key, value), nil
}

func (l *link) Write(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.cut {
		return 0, errCut
	}
	e, ok := l.m.live(key)
	if !ok {
		e.Revision = 0
	}
	if e.Revision != revision {
		return 0, ErrChanged
	}
	written := l.put(key, value)
	if l.lostAnswers > 0 {
		l.lostAnswers--
		return 0, context.DeadlineExceeded
	}
	return written, nil
}

func (l *link) Read(_ context.Context, key string) (Entry, error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.cut {
		return Entry{}, errCut
	}
	e, ok := l.m.live(key)
	if !ok {
		return Entry{}, ErrAbsent
	}
	return e, nil
}

// brokerSide is the broker as the lanes see it: one connection per partition, the
// latest wins.
type brokerSide struct {
	mu        sync.Mutex
	connected map[string]*lanes // by partition
	takeovers int
	opened    map[string]int
}

// lanes are the lanes of one replica.
type lanes struct {
	name   string
	broker *brokerSide
	drain  time.Duration
	// closing is how long Abandon takes.
	closing time.Duration

	unreachable bool        // the broker, for this replica; under the broker's mu
	hangs       atomic.Bool // a probe gets no answer
	probeOnly   atomic.Bool // a probe succeeds, but no lane connects

	mu   sync.Mutex
	open map[string]*Lease
	// sessions reports for which lanes the broker was believed to have a session.
	sessions map[string]bool
}

// opens returns how often a lane of each partition was opened.
func (b *brokerSide) opens() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.opened)
}

func (l *lanes) Open(p string, lease *Lease, hadSession bool) {
	l.mu.Lock()
	l.open[p], l.sessions[p] = lease, hadSession
	l.mu.Unlock()
	l.broker.mu.Lock()
	l.broker.opened[p]++
	l.broker.mu.Unlock()
	l.connect(p)
}

func (l *lanes) connect(p string) {
	b := l.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.unreachable || l.probeOnly.Load() {
		return
	}
	if b.connected[p] != nil && b.connected[p] != l {
		b.takeovers++
	}
	b.connected[p] = l
}

func (l *lanes) Connected(p string) bool {
	l.broker.mu.Lock()
	defer l.broker.mu.Unlock()
	return l.broker.connected[p] == l
}

func (l *lanes) Close(ctx context.Context, p string) int {
	select {
	case <-time.After(l.drain):
	case <-ctx.Done():
	}
	l.Abandon(p)
	return 0
}

func (l *lanes) Abandon(p string) {
	time.Sleep(l.closing)
	l.broker.mu.Lock()
	if l.broker.connected[p] == l {
		delete(l.broker.connected, p)
	}
	l.broker.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, p)
}

// ProbeBroker reaches the broker unless it is unreachable for the replica.
func (l *lanes) ProbeBroker(ctx context.Context) error {
	if l.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	l.broker.mu.Lock()
	defer l.broker.mu.Unlock()
	if l.unreachable {
		return errCut
	}
	return nil
}

func (l *lanes) held() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.open))
}

// replica is a coordinator with its link and its lanes.
type replica struct {
	*Coordinator
	link  *link
	lanes *lanes
}

// world is a store, a broker and the running replicas.
type world struct {
	t      *testing.T
	memory *memory
	broker *brokerSide
	n      int
	run    []*replica
}

func newWorld(t *testing.T) *world {
	return &world{t: t, memory: newMemory(), broker: &brokerSide{connected: map[string]*lanes{}, opened: map[string]int{}}}
}

// inWorld runs a test under virtual time. What still runs at its end is stopped.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		test(t, w)
		w.stop(slices.Clone(w.run)...)
	})
}

// alone returns a replica that has had all partitions for a minute.
func (w *world) alone() *replica {
	a := w.join()
	w.everything(a)
	time.Sleep(time.Minute)
	return a
}

// pair returns two replicas that have shared the partitions for a minute.
func (w *world) pair() (a, b *replica) {
	a, b = w.join(), w.join()
	w.everything(a, b)
	time.Sleep(time.Minute)
	return a, b
}

// pairWithOneCut is a pair in which b has lost the broker and a has taken over its partitions.
func (w *world) pairWithOneCut() (a, b *replica) {
	a, b = w.pair()
	w.part(b)
	w.everything(a)
	return a, b
}

// pairWithProbeOnly is a replica that has been alone, and one that reaches the broker but whose lanes never connect.
func (w *world) pairWithProbeOnly() (a, b *replica) {
	a, b = w.alone(), w.start(false)
	b.lanes.probeOnly.Store(true)
	w.rejoin(b)
	return a, b
}

func (w *world) join() *replica { return w.start(true) }

// joinWithoutBroker starts a replica that never reached the broker.
func (w *world) joinWithoutBroker() *replica { return w.start(false) }

func (w *world) start(reaches bool) *replica {
	w.n++
	name := fmt.Sprintf("r%d", w.n)
	r := &replica{link: w.memory.link(), lanes: &lanes{
		name: name, broker: w.broker, unreachable: !reaches, drain: 50 * time.Millisecond, open: map[string]*Lease{}, sessions: map[string]bool{},
	}}
	r.Coordinator = Open(Options{
		Store: r.link, Lanes: r.lanes, Partitions: sixteen, DrainTimeout: 5 * time.Second, Log: zerolog.Nop(),
		Replica: Replica{ID: name, Host: "host-" + name, Started: time.Now()},
	})
	w.run = append(w.run, r)
	return r
}

// kill is kill -9: the replica writes nothing any more, and its connections end.
func (w *world) kill(r *replica) {
	r.link.setCut(true)
	r.lanes.mu.Lock()
	for p := range r.lanes.open {
		w.broker.mu.Lock()
		if w.broker.connected[p] == r.lanes {
			delete(w.broker.connected, p)
		}
		w.broker.mu.Unlock()
	}
	r.lanes.mu.Unlock()
}

// part makes the broker unreachable for a replica.
func (w *world) part(r *replica) {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	r.lanes.unreachable = true
	maps.DeleteFunc(w.broker.connected, func(_ string, l *lanes) bool { return l == r.lanes })
}

// rejoin makes the broker reachable again.
func (w *world) rejoin(r *replica) {
	w.broker.mu.Lock()
	r.lanes.unreachable = false
	w.broker.mu.Unlock()
	for _, p := range r.lanes.held() {
		r.lanes.connect(p)
	}
}

// everything waits until every partition is connected by one of the replicas, in
// shares that differ by at most one, and returns how long that took.
func (w *world) everything(replicas ...*replica) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for {
		synctest.Wait()
		share := map[string]string{}
		n := map[string]int{}
		w.broker.mu.Lock()
		for p, l := range w.broker.connected {
			share[p] = l.name
			n[l.name]++
		}
		w.broker.mu.Unlock()
		var sizes []int
		for _, r := range replicas {
			sizes = append(sizes, n[r.lanes.name])
		}
		if len(share) == len(sixteen) && len(n) == len(replicas) && slices.Max(sizes)-slices.Min(sizes) <= 1 {
			return time.Since(begun)
		}
		if time.Since(begun) > 5*time.Minute {
			require.Fail(w.t, "the partitions are not distributed", "%v", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) stop(replicas ...*replica) {
	for _, r := range replicas {
		require.Zero(w.t, r.Close(context.Background()))
		require.Empty(w.t, r.lanes.held())
		w.run = slices.DeleteFunc(w.run, func(o *replica) bool { return o == r })
	}
}

func TestCoordinator(t *testing.T) {
	t.Parallel()
	t.Run("replicas share partitions and hand over", testReplicasSharePartitionsAndHandOver)
	t.Run("simultaneous start moves nothing", testSimultaneousStartMovesNothing)
	t.Run("leases of killed replica move within 15 s", testLeasesOfKilledReplicaMoveWithin15S)
	t.Run("store outage moves nothing", testStoreOutageMovesNothing)
	t.Run("reconnect requires a valid lease", testReconnectRequiresAValidLease)
	t.Run("resumed replica is fenced until lanes close", testResumedReplicaIsFencedUntilLanesClose)
	t.Run("unresponsive store fences no lane", testUnresponsiveStoreFencesNoLane)
	t.Run("store watch restarts after it ended", testStoreWatchRestartsAfterItEnded)
	t.Run("lost answer is no lost lease", testLostAnswerIsNoLostLease)
	t.Run("only replica reacquires expired lease", testOnlyReplicaReacquiresExpiredLease)
	t.Run("lease deleted by hand is lost", testLeaseDeletedByHandIsLost)
	t.Run("surplus replicas stay idle", testSurplusReplicasStayIdle)
}

func testReplicasSharePartitionsAndHandOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.join()
		require.Less(t, w.everything(a), 2*time.Second)
		for range sixteen {
			require.NotContains(t, a.lanes.sessions, true, "the broker had no session yet")
		}
		time.Sleep(time.Minute)
		b, c := w.join(), w.join()
		took := w.everything(a, b, c)
		require.Less(t, took, 3*time.Second)
		for p, n := range w.broker.opens() {
			require.LessOrEqual(t, n, 2, "partition %s moved once", p)
		}
		for _, had := range b.lanes.sessions {
			require.True(t, had, "the broker has a session from before")
		}
		time.Sleep(time.Minute)
		w.stop(b)
		require.Less(t, w.everything(a, c), time.Second, "a stopping replica hands over immediately")
		require.Zero(t, w.broker.takeovers, "no replica was disconnected")
		status := a.Status()
		require.NoError(t, status.Err)
		require.True(t, status.Settled)
		require.Equal(t, 8, status.Leased())
		require.EqualValues(t, 16+2, status.Acquired)
		require.EqualValues(t, 10, status.Released)
	})
}

func testSimultaneousStartMovesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join(), w.join(), w.join()
		w.everything(a, b, c)
		for p, n := range w.broker.opens() {
			require.Equal(t, 1, n, "partition %s", p)
		}
	})
}

func testLeasesOfKilledReplicaMoveWithin15S(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join(), w.join(), w.join()
		w.everything(a, b, c)
		time.Sleep(95 * time.Second)
		w.kill(b)
		took := w.everything(a, c)
		require.Less(t, took, 15*time.Second)
		require.Greater(t, took, ttl-ttl/renewDivisor-time.Second, "not before the lease has expired")
		// A replica that joins afterwards takes them over as well.
		w.kill(a)
		d := w.join()
		require.Less(t, w.everything(c, d), 15*time.Second)
		b.link.setCut(false)
		a.link.setCut(false)
	})
}

func testStoreOutageMovesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		all := []*replica{w.join(), w.join(), w.join()}
		w.everything(all...)
		time.Sleep(time.Minute)
		opened := w.broker.opens()
		for _, r := range all {
			r.link.setCut(true)
		}
		time.Sleep(3 * time.Minute) // all leases expire
		for i, r := range all {
			require.Error(t, r.Status().Err)
			r.link.setCut(false)
			time.Sleep(time.Duration(i) * 2 * time.Second) // reconnected one after the other
		}
		time.Sleep(time.Minute)
		w.everything(all...)
		require.Equal(t, opened, w.broker.opens(), "nothing moved")
		for _, r := range all {
			require.NoError(t, r.Status().Err)
			require.Zero(t, r.Status().Lost)
		}
	})
}

// permit asks for permission to connect, as a session does after its connection has ended.
func permit(l *Lease) (granted bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	return l.WaitToConnect(ctx) == nil
}

func testReconnectRequiresAValidLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pair()
		p := a.lanes.held()[0]
		hold := a.lanes.open[p]
		require.True(t, permit(hold), "the lease is valid")

		a.link.setCut(true)
		require.True(t, permit(hold), "the lease cannot have expired yet")
		// The broker keeps serving a replica that has lost only the store…
		time.Sleep(ttl - time.Second)
		require.Len(t, a.lanes.held(), 8)
		// …until another connects with the client id.
		w.everything(b)
		require.Equal(t, 8, w.broker.takeovers)
		require.False(t, permit(hold), "it may have expired, and was acquired by another")
		require.NotContains(t, a.lanes.held(), p, "its lane is closed")
		for _, p := range a.lanes.held() {
			require.False(t, permit(a.lanes.open[p]))
		}
		require.Empty(t, a.lanes.held())
		require.EqualValues(t, 8, a.Status().Lost)

		a.link.setCut(false)
		w.everything(a, b)
		require.Equal(t, 8, w.broker.takeovers, "no further takeover")
	})
}

func testResumedReplicaIsFencedUntilLanesClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pair()
		var holds []*Lease
		for _, p := range a.lanes.held() {
			require.False(t, a.lanes.open[p].Fenced())
			holds = append(holds, a.lanes.open[p])
		}
		frozen := make(chan struct{})
		w.memory.mu.Lock()
		a.link.frozen = frozen
		w.memory.mu.Unlock()
		w.everything(b)
		time.Sleep(5 * time.Minute)
		for _, h := range holds {
			require.True(t, h.Fenced())
		}
		// Closing a lane takes time; until then the lease is fenced.
		a.lanes.closing = time.Second
		w.memory.mu.Lock()
		a.link.frozen = nil
		w.memory.mu.Unlock()
		close(frozen)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		require.Len(t, a.lanes.held(), len(holds))
		require.True(t, holds[0].Fenced())
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, len(holds), a.Status().Lost)
		require.False(t, holds[0].Fenced())
		w.everything(a, b)
	})
}

// Waiting for a store that does not answer must not fence the lanes: they continue, however
// short the lease TTL is.
func testUnresponsiveStoreFencesNoLane(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory.ttl = 2 * time.Second // the minimum of lanes.ttl
		a := w.alone()
		w.memory.mu.Lock()
		a.link.silent = true
		w.memory.mu.Unlock()
		hold := a.lanes.open[a.lanes.held()[0]]
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			require.False(t, hold.Fenced())
		}
		require.Len(t, a.lanes.held(), len(sixteen))
		w.memory.mu.Lock()
		a.link.silent = false
		w.memory.mu.Unlock()
		w.everything(a)
	})
}

func testStoreWatchRestartsAfterItEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.join()
		w.everything(a)
		a.link.end <- kv.ErrReadAgain
		synctest.Wait()
		require.NoError(t, a.Status().Err, "the bucket is reread without an error")
		a.link.end <- errCut
		synctest.Wait()
		require.ErrorIs(t, a.Status().Err, errCut)
		time.Sleep(reopen)
		synctest.Wait()
		require.NoError(t, a.Status().Err)
		b := w.join() // which the new Follow shows
		w.everything(a, b)
		require.Zero(t, a.Status().Lost)
	})
}

func testLostAnswerIsNoLostLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.join()
		w.everything(a)
		w.memory.mu.Lock()
		a.link.lostAnswers = 5 // the writes succeed, but their answers are lost
		w.memory.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, a.link.lostAnswers)
		require.Zero(t, a.Status().Lost)
		require.NoError(t, a.Status().Err)
		require.Len(t, a.lanes.held(), 16)
	})
}

func testOnlyReplicaReacquiresExpiredLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.join()
		w.everything(a)
		a.link.setCut(true)
		time.Sleep(time.Minute)
		for p, h := range maps.Clone(a.lanes.open) { // the broker was unreachable too
			w.broker.mu.Lock()
			delete(w.broker.connected, p)
			w.broker.mu.Unlock()
			require.False(t, permit(h))
		}
		require.Empty(t, a.lanes.held())
		a.link.setCut(false)
		require.Less(t, w.everything(a), 3*time.Second)
	})
}

func testLeaseDeletedByHandIsLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.join()
		w.everything(a)
		w.memory.mu.Lock()
		w.memory.link().put("p3", nil)
		w.memory.mu.Unlock()
		synctest.Wait()
		require.EqualValues(t, 1, a.Status().Lost)
		w.everything(a)
		require.Equal(t, 2, w.broker.opens()["3"])
	})
}

func testSurplusReplicasStayIdle(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var all []*replica
		for range 18 {
			all = append(all, w.join())
		}
		time.Sleep(time.Minute)
		idle := 0
		for _, r := range all {
			if r.Status().Leased() == 0 {
				idle++
			}
		}
		require.Equal(t, 2, idle)
		w.stop(all[0])
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, w.broker.connected, 16)
	})
}
