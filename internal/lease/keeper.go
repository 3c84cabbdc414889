package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Lanes are what leases are for. Its methods are called by the keeper; Close and
// Abandon on goroutines of their own, for each partition one at a time.
type Lanes interface {
	// Open begins to open the partition's lane and returns at once. hadSession:
	// the broker had a session for it when somebody was connected last.
	Open(partition string, hold *Hold, hadSession bool)
	// Connected tells whether the lane's session is connected.
	Connected(partition string) bool
	// Close lets the lane run empty, until ctx ends, and returns when its session
	// has left the broker; with how many messages were left unstored.
	Close(ctx context.Context, partition string) (abandoned int)
	// Abandon closes the lane as it is: the broker has everything.
	Abandon(partition string)
}

// Options of a keeper. All but Admitted and Log are required.
type Options struct {
	Store      Store
	Lanes      Lanes
	Partitions []string // all there are
	Replica    Replica  // this one
	// Admitted is closed once this replica may hold anything; until then it takes no
	// part. nil: at once.
	Admitted <-chan struct{}
	// HandOver bounds how long a lane may take to run empty when its partition
	// goes to another replica.
	HandOver time.Duration
	Log      zerolog.Logger
}

// Keeper holds a replica's share of the partitions.
type Keeper struct {
	opts   Options
	cancel context.CancelFunc
	wait   sync.WaitGroup
	asks   chan ask
	ended  chan ending
	leave  chan context.Context
	done   chan struct{}

	base  time.Time
	alive atomic.Int64 // when the loop last came round with its leases in order, ns since base
	limit atomic.Int64 // how long ago that may be, ns; 0: the TTL is not known

	// Of the loop.
	ttl          time.Duration
	view         *view
	entries      <-chan Entry // nil: the store is not open
	openAt       time.Time
	renewAt      time.Time
	retryAt      time.Time     // when to try again to take what ought to have expired
	confirmed    time.Duration // when all leases were last confirmed or found lost, since base
	contact      time.Time     // the latest answer of the store
	quietUntil   time.Time     // until then nothing is taken that its holder has not left
	echo         uint64        // a revision that the watch must have shown by the next renewal
	holds        map[string]*Hold
	mine         map[string]bool // lapsed here: nobody else can have been connected
	idle         map[string]time.Time
	leaving      bool
	until        context.Context // of the leave
	settled      bool
	problem      string
	problemSince time.Time
	taken        uint64
	handedOver   uint64
	lostCount    uint64
	abandoned    int

	mu     sync.Mutex
	status Status
}

// ending is a lane that has been closed.
type ending struct {
	hold      *Hold
	abandoned int
}

// The keeper's times, as parts of the TTL.
const (
	renewals = 3  // a lease is renewed so many times while it lives
	answers  = 5  // the store has so long for an answer
	settles  = 10 // so long does a new replica look around, for others that start with it
)

// reopen is how long the keeper waits before it tries the store again, retry before
// it tries to take a lease that ought to have expired.
const (
	reopen = time.Second
	retry  = 500 * time.Millisecond
)

// Start starts a keeper. Stop must be called.
func Start(o Options) *Keeper {
	ctx, cancel := context.WithCancel(context.Background())
	now := time.Now()
	k := &Keeper{
		opts: o, cancel: cancel, base: now,
		asks: make(chan ask), ended: make(chan ending), leave: make(chan context.Context), done: make(chan struct{}),
		holds: map[string]*Hold{}, mine: map[string]bool{}, idle: map[string]time.Time{},
		problem: "not reached yet", problemSince: now,
	}
	k.report(now)
	go k.run(ctx)
	return k
}

// Stop gives every partition to the others, until ctx ends, and returns how many
// messages were left unstored: they are with the broker.
func (k *Keeper) Stop(ctx context.Context) (abandoned int) {
	select {
	case k.leave <- ctx:
	case <-k.done:
	}
	<-k.done
	k.cancel()
	k.wait.Wait()
	return k.abandoned
}

func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	defer k.opts.Store.Close()
	if k.opts.Admitted != nil {
		select {
		case <-k.opts.Admitted:
		case <-k.leave:
			return
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		k.pass(ctx, now)
		if k.leaving && len(k.holds) == 0 {
			k.report(time.Now())
			return
		}
		k.report(time.Now())
		timer.Reset(time.Until(k.next(time.Now())))
		select {
		case <-timer.C:
		case e, ok := <-k.entries:
			k.see(e, ok)
		case a := <-k.asks:
			k.answer(ctx, a)
		case e := <-k.ended:
			k.end(ctx, e)
		case k.until = <-k.leave:
			k.leaving = true
			k.renewAt = time.Time{} // the others are to know at once
		}
	}
}

// pass does what is due.
func (k *Keeper) pass(ctx context.Context, now time.Time) {
	if k.entries == nil && !now.Before(k.openAt) {
		k.open(ctx)
	}
	if k.entries != nil && !now.Before(k.renewAt) && k.renewAll(ctx) {
		k.confirmed = time.Since(k.base)
	}
	if k.entries != nil && !k.view.listing || k.leaving {
		k.shareOut(ctx, time.Now())
	}
	// After a standstill only an answer of the store tells what became of the
	// leases, and what was lost must be closed before the rest goes on.
	if !k.fenced() || int64(k.confirmed) > k.alive.Load() && !k.closing() {
		k.alive.Store(int64(time.Since(k.base)))
	}
}

// fenced: see Hold.Fenced.
func (k *Keeper) fenced() bool {
	limit := k.limit.Load()
	return limit > 0 && int64(time.Since(k.base))-k.alive.Load() > limit
}

func (k *Keeper) closing() bool {
	for _, h := range k.holds {
		if h.phase == losing {
			return true
		}
	}
	return false
}

// next is when there is something to do without an event.
func (k *Keeper) next(now time.Time) time.Time {
	if k.entries == nil {
		return k.openAt
	}
	next := k.renewAt
	for _, at := range []time.Time{k.retryAt, k.quietUntil, k.view.nextExpiry(now)} {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next
}

// store makes one request and notes that it was answered.
func (k *Keeper) store(ctx context.Context, request func(context.Context) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, k.ttl/answers)
	defer cancel()
	revision, err := request(ctx)
	if err == nil || errors.Is(err, ErrChanged) || errors.Is(err, ErrAbsent) {
		k.contact = time.Now()
	}
	return revision, err
}

func (k *Keeper) read(ctx context.Context, key string) (e Entry, err error) {
	_, err = k.store(ctx, func(ctx context.Context) (uint64, error) {
		e, err = k.opts.Store.Read(ctx, key)
		return e.Revision, err
	})
	return e, err
}

// open finds the store and begins to look at it.
func (k *Keeper) open(ctx context.Context) {
	const patience = 5 * time.Second
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	opened, err := k.opts.Store.Open(bounded)
	if err != nil {
		k.failed(err)
		return
	}
	now := time.Now()
	first := k.contact.IsZero()
	if first {
		k.alive.Store(int64(now.Sub(k.base)))
	}
	k.ttl = opened.TTL
	k.limit.Store(int64(opened.TTL))
	k.entries, k.view = opened.Entries, newView(opened.TTL)
	k.renewAt, k.echo = now, 0
	// The others' leases may have expired while nobody could renew them, or be gone
	// with the bucket. Whoever is back first must not take everything.
	k.quietUntil = now.Add(k.ttl)
	if first {
		k.quietUntil = now.Add(k.ttl / settles)
	}
	k.contact = now
}

// failed: the store did not do what it was asked. Everything held stays: the broker
// decides who is connected.
func (k *Keeper) failed(err error) {
	if k.problem == "" {
		k.problemSince = time.Now()
	}
	if text := err.Error(); text != k.problem {
		k.problem = text
		k.opts.Log.Warn().AnErr("problem", err).Int("partitions", len(k.holds)).
			Msg("the leases cannot be reached: what this replica holds it keeps, unless the broker gives a connection to another")
	}
	k.opts.Store.Close()
	k.entries = nil
	k.openAt = time.Now().Add(min(reopen, max(k.ttl/10, 100*time.Millisecond)))
}

// see takes in what the watch shows.
func (k *Keeper) see(e Entry, ok bool) {
	if !ok {
		k.failed(errors.New("the watch of the leases ended"))
		return
	}
	k.view.apply(e, time.Now())
	for more := true; more; {
		select {
		case e, ok := <-k.entries:
			if ok {
				k.view.apply(e, time.Now())
			}
			more = ok // closed: the next round meets it
		default:
			more = false
		}
	}
	for p := range k.mine {
		if l := k.view.leases[p]; l.Holder != "" && l.Holder != k.opts.Replica.ID {
			delete(k.mine, p)
		}
	}
	for p, h := range k.holds {
		l := k.view.leases[p]
		if h.phase == holding && l.revision > h.revision && l.Holder != k.opts.Replica.ID {
			h.why = "replica " + l.Holder + " at " + l.Host + " has it"
			k.lose(h)
		}
	}
}

// renewAll says that this replica is there and renews what it holds; the answer is
// whether all of it was confirmed or found lost.
func (k *Keeper) renewAll(ctx context.Context) bool {
	k.renewAt = time.Now().Add(k.ttl / renewals)
	ctx, cancel := context.WithDeadline(ctx, k.renewAt)
	defer cancel()
	if k.echo > k.view.latest {
		k.failed(errors.New("the watch of the leases is silent"))
		return false
	}
	me := k.opts.Replica
	me.Leaving = k.leaving
	// First: it expires first, too, so that nobody gives a dead replica a share.
	revision, err := k.store(ctx, func(ctx context.Context) (uint64, error) {
		return k.opts.Store.Put(ctx, replicaKey+me.ID, encode(me))
	})
	if err != nil {
		k.failed(fmt.Errorf("say that this replica is there: %w", err))
		return false
	}
	k.echo = revision
	for _, p := range k.opts.Partitions {
		h := k.holds[p]
		if h == nil || h.phase == losing {
			continue
		}
		switch was, err := k.renew(ctx, h); was {
		case lost:
			k.lose(h)
		case unknown:
			if !errors.Is(err, ErrChanged) {
				k.failed(fmt.Errorf("renew the lease of partition %s: %w", p, err))
				return false
			}
		}
	}
	if k.problem != "" {
		k.problem = ""
		k.opts.Log.Info().Str("replica", me.ID).Dur("ttl_ms", k.ttl).Msg("the leases are in reach")
	}
	return true
}

// shareOut hands over what is beyond this replica's share and takes what is free
// of it.
func (k *Keeper) shareOut(ctx context.Context, now time.Time) {
	if k.leaving {
		for _, h := range k.holds {
			k.handOver(k.until, h)
		}
		return
	}
	holders := map[string]string{}
	for _, p := range k.opts.Partitions {
		if k.holds[p] != nil {
			holders[p] = k.opts.Replica.ID
		} else if l, free, _ := k.view.lease(p, now); !free {
			holders[p] = l.Holder
		}
	}
	members := k.view.members(now)
	if !slices.Contains(members, k.opts.Replica.ID) {
		return // what this replica said of itself has not come back yet
	}
	bounded, cancel := context.WithDeadline(ctx, now.Add(k.ttl/renewals))
	defer cancel()
	share := Share(k.opts.Partitions, members, holders)
	var took []string
	for _, p := range k.opts.Partitions {
		own := share[p] == k.opts.Replica.ID
		switch h := k.holds[p]; {
		case h != nil && !own:
			k.handOver(ctx, h)
		case h == nil && own && holders[p] == "" && k.entries != nil && k.take(bounded, p, len(members), now):
			took = append(took, p)
		}
	}
	if !now.Before(k.quietUntil) {
		k.settled = true
	}
	if len(took) > 0 {
		k.opts.Log.Info().Strs("partitions", took).Int("held", len(k.holds)).Int("replicas", len(members)).Msg("partitions taken")
	}
}

// take takes a free partition and opens its lane.
func (k *Keeper) take(ctx context.Context, p string, members int, now time.Time) bool {
	l, _, left := k.view.lease(p, now)
	switch {
	case left && members > 1, k.mine[p]:
	case now.Before(k.quietUntil), !left && now.Before(k.retryAt):
		return false
	}
	h := &Hold{keeper: k, partition: p, since: time.Now().UTC().Truncate(time.Millisecond), session: l.Session}
	switch err := k.write(ctx, h, l.revision); {
	case errors.Is(err, ErrChanged):
		// Another was faster, which the watch will show; or the server has
		// not let it expire yet.
		if !left {
			k.retryAt = now.Add(retry)
		}
		return false
	case err != nil:
		k.failed(fmt.Errorf("take partition %s: %w", p, err))
		return false
	}
	delete(k.mine, p)
	k.holds[p] = h
	k.taken++
	k.opts.Lanes.Open(p, h, l.Session)
	return true
}

// handOver lets a lane run empty; the lease goes when it has.
func (k *Keeper) handOver(ctx context.Context, h *Hold) {
	if h.phase != holding {
		return
	}
	h.phase = leaving
	h.session = h.session || k.opts.Lanes.Connected(h.partition)
	k.wait.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, k.opts.HandOver)
		defer cancel()
		k.ended <- ending{h, k.opts.Lanes.Close(bounded, h.partition)}
	})
}

// lose closes the lane of a partition that is another's, or may be. What it has not
// acknowledged the broker gives to the other.
func (k *Keeper) lose(h *Hold) {
	if h.phase != holding {
		return // its lane is closing already; the lease is not written any more
	}
	h.phase = losing
	k.lostCount++
	k.opts.Log.Warn().Str("partition", h.partition).Str("why", h.why).Msg("a lease is lost; its lane is closed")
	k.wait.Go(func() {
		k.opts.Lanes.Abandon(h.partition)
		k.ended <- ending{h, 0}
	})
}

// answer decides whether a session may connect again.
func (k *Keeper) answer(ctx context.Context, a ask) {
	h := a.hold
	if h.phase != holding || k.holds[h.partition] != h {
		return // its lane is being closed
	}
	was, err := unknown, error(nil)
	if k.entries != nil {
		was, err = k.renew(ctx, h)
	}
	switch {
	case was == lost:
		k.lose(h)
		return
	case was == unknown && err != nil && !errors.Is(err, ErrChanged):
		k.failed(fmt.Errorf("confirm the lease of partition %s: %w", h.partition, err))
	}
	if was == unknown && !time.Now().Before(h.until) {
		h.why = "it may have expired, and the leases cannot be reached"
		k.mine[h.partition] = true
		k.lose(h)
		return
	}
	close(a.granted)
}

// end is told that a lane has been closed.
func (k *Keeper) end(ctx context.Context, e ending) {
	h := e.hold
	delete(k.holds, h.partition)
	k.abandoned += e.abandoned
	if h.phase != leaving {
		return
	}
	k.handedOver++
	k.opts.Log.Debug().Str("partition", h.partition).Msg("partition handed over")
	if k.entries == nil {
		return // out of reach: the lease expires
	}
	_, err := k.store(ctx, func(ctx context.Context) (uint64, error) {
		return k.opts.Store.Write(ctx, partitionKey(h.partition), encode(Record{
			Since: time.Now().UTC().Truncate(time.Millisecond), Session: h.session,
		}), h.revision)
	})
	if err != nil && !errors.Is(err, ErrChanged) {
		k.failed(fmt.Errorf("give back the lease of partition %s: %w", h.partition, err))
	}
}

func decode(b []byte, v any) bool { return json.Unmarshal(b, v) == nil }
