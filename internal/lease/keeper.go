package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Lanes are what leases are for. Its methods are called by the keeper; Try, Close
// and Abandon on goroutines of their own, Try one at a time, the others for each
// partition one at a time.
type Lanes interface {
	// Open begins to open the partition's lane and returns at once. hadSession:
	// the broker had a session for it when somebody was connected last.
	Open(partition string, hold *Hold, hadSession bool)
	// Connected tells whether the lane's session is connected.
	Connected(partition string) bool
	// Try connects to the broker as a lane would, under a client id of its own, and
	// leaves again.
	Try(ctx context.Context) error
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
	tried  chan error
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
	echo         uint64        // a revision that the watch must show
	echoFrom     time.Time     // when it was written
	holds        map[string]*Hold
	mine         map[string]bool // lapsed here: nobody else can have been connected
	idle         map[string]time.Time
	endTrial     context.CancelFunc // nil: none is in progress
	tryAt        time.Time          // when the next one begins
	reached      bool               // the last one reached the broker
	unreached    error              // why it did not
	unreachedAt  time.Time          // since when none has
	out          bool               // see Replica.Out
	served       bool               // a lane has been connected since the latest share was given
	vain         int                // how often in a row it was out without
	vainUntil    time.Time          // until then a trial is of no use while another has the broker
	leaving      bool
	until        context.Context // of the leave
	settled      bool
	elsewhere    []string // the replicas at another broker, as logged
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
		asks: make(chan ask), ended: make(chan ending), tried: make(chan error), leave: make(chan context.Context), done: make(chan struct{}),
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
		if k.leaving && len(k.holds) == 0 && k.endTrial == nil {
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
		case err := <-k.tried:
			k.learn(err)
		case k.until = <-k.leave:
			k.leaving = true
			if k.endTrial != nil {
				k.endTrial()
			}
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
		k.try(ctx, time.Now())
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
	for _, at := range []time.Time{k.retryAt, k.quietUntil, k.tryAt, k.view.nextExpiry(now)} {
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
	patience := 5 * time.Second
	if k.ttl > 0 { // a round that takes as long as a lease lives is a standstill
		patience = min(patience, k.ttl/2)
	}
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
	// with the bucket. The first replica back must not take everything.
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
		k.opts.Log.Warn().Str("component", "leases").AnErr("problem", err).Int("partitions", len(k.holds)).
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
	silent := k.echo > k.view.latest
	if silent && time.Since(k.echoFrom) > k.ttl/2 {
		k.failed(errors.New("the watch of the leases is silent"))
		return false
	}
	me := k.opts.Replica
	me.Leaving, me.Connected, me.Out = k.leaving, k.connected(), k.out
	// First: it expires first, too, so that nobody gives a dead replica a share.
	revision, err := k.store(ctx, func(ctx context.Context) (uint64, error) {
		return k.opts.Store.Put(ctx, replicaKey+me.ID, encode(me))
	})
	if err != nil {
		k.failed(fmt.Errorf("say that this replica is there: %w", err))
		return false
	}
	if !silent {
		k.echo, k.echoFrom = revision, time.Now()
	}
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
