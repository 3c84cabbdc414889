package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/jetstream/kv"
)

// Lanes are what leases are for. Its methods are called by the coordinator; ProbeBroker, Close
// and Abandon on goroutines of their own, ProbeBroker one at a time, the others for each
// partition one at a time.
type Lanes interface {
	// Open begins to open the partition's lane and returns at once. hadSession:
	// the broker had a session for it when somebody was connected last.
	Open(partition string, hold *Lease, hadSession bool)
	// Connected tells whether the lane's session is connected.
	Connected(partition string) bool
	// ProbeBroker connects to the broker as a lane would, under a client id of its own, and
	// leaves again.
	ProbeBroker(ctx context.Context) error
	// Close lets the lane run empty, until ctx ends, and returns when its session
	// has left the broker; with how many messages were left unstored.
	Close(ctx context.Context, partition string) (abandoned int)
	// Abandon closes the lane as it is: the broker has everything.
	Abandon(partition string)
}

// Options of a coordinator. All but Admitted and Log are required.
type Options struct {
	Store      Store
	Lanes      Lanes
	Partitions []string // all there are
	Replica    Replica  // this one
	// Admitted is closed once this replica may hold anything; until then it takes no
	// part. nil: at once.
	Admitted <-chan struct{}
	// DrainTimeout bounds how long a lane may take to run empty when its partition
	// goes to another replica.
	DrainTimeout time.Duration
	Log          zerolog.Logger
}

// Coordinator leases a replica's share of the partitions.
type Coordinator struct {
	opts     Options
	cancel   context.CancelFunc
	wait     sync.WaitGroup
	requests chan ask
	closed   chan ending
	probes   chan error
	leave    chan context.Context
	done     chan struct{}

	base  time.Time
	alive atomic.Int64 // when the loop last came round with its leases in order, ns since base
	limit atomic.Int64 // how long ago that may be, ns; 0: the TTL is not known

	// Of the loop.
	ttl               time.Duration
	view              *view
	entries           <-chan Entry // nil: the store is not open
	stopFollowing     context.CancelFunc
	openAt            time.Time
	renewAt           time.Time
	retryAt           time.Time     // when to try again to take what ought to have expired
	confirmed         time.Duration // when all leases were last confirmed or found lost, since base
	contact           time.Time     // the latest answer of the store
	graceUntil        time.Time     // until then nothing is taken that its holder has not left
	leases            map[string]*Lease
	lapsed            map[string]bool // lapsed here: nobody else can have been connected
	idle              map[string]time.Time
	cancelProbe       context.CancelFunc // nil: none is in progress
	probeAt           time.Time          // when the next one begins
	reached           bool               // the last one reached the broker
	unreached         error              // why it did not
	unreachedAt       time.Time          // since when none has
	standby           bool               // see Replica.Standby
	laneConnected     bool               // a lane has been connected since the latest share was given
	failedAssignments int                // how often in a row it was out without
	pausedUntil       time.Time          // until then a probe is of no use while another has the broker
	leaving           bool
	until             context.Context // of the leave
	settled           bool
	elsewhere         []string // the replicas at another broker, as logged
	problem           string
	problemSince      time.Time
	acquired          uint64
	released          uint64
	lostCount         uint64
	abandoned         int

	mu     sync.Mutex
	status Status
}

// ending is a lane that has been closed.
type ending struct {
	lease     *Lease
	abandoned int
}

// the coordinator's times, as parts of the TTL.
const (
	renewals = 3  // a lease is renewed so many times while it lives
	answers  = 5  // the store has so long for an answer
	settles  = 10 // so long does a new replica look around, for others that start with it
)

// reopen is how long the coordinator waits before it tries the store again, retry before
// it tries to take a lease that ought to have expired.
const (
	reopen = time.Second
	retry  = 500 * time.Millisecond
)

// Start starts a coordinator. Stop must be called.
func Start(o Options) *Coordinator {
	ctx, cancel := context.WithCancel(context.Background())
	now := time.Now()
	c := &Coordinator{
		opts: o, cancel: cancel, base: now,
		requests: make(chan ask), closed: make(chan ending), probes: make(chan error), leave: make(chan context.Context), done: make(chan struct{}),
		leases: map[string]*Lease{}, lapsed: map[string]bool{}, idle: map[string]time.Time{},
		problem: "not reached yet", problemSince: now,
	}
	c.report(now)
	go c.run(ctx)
	return c
}

// Stop gives every partition to the others, until ctx ends, and returns how many
// messages were left unstored: they are with the broker.
func (c *Coordinator) Stop(ctx context.Context) (abandoned int) {
	select {
	case c.leave <- ctx:
	case <-c.done:
	}
	<-c.done
	c.cancel()
	c.wait.Wait()
	return c.abandoned
}

func (c *Coordinator) run(ctx context.Context) {
	defer close(c.done)
	if c.opts.Admitted != nil {
		select {
		case <-c.opts.Admitted:
		case <-c.leave:
			return
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		c.pass(ctx, now)
		if c.leaving && len(c.leases) == 0 && c.cancelProbe == nil {
			c.report(time.Now())
			return
		}
		c.report(time.Now())
		timer.Reset(time.Until(c.next(time.Now())))
		select {
		case <-timer.C:
		case e := <-c.entries:
			c.observe(e)
		case a := <-c.requests:
			c.grant(ctx, a)
		case e := <-c.closed:
			c.end(ctx, e)
		case err := <-c.probes:
			c.probed(err)
		case c.until = <-c.leave:
			c.leaving = true
			if c.cancelProbe != nil {
				c.cancelProbe()
			}
			c.renewAt = time.Time{} // the others are to know at once
		}
	}
}

// pass does what is due.
func (c *Coordinator) pass(ctx context.Context, now time.Time) {
	if c.entries == nil && !now.Before(c.openAt) {
		c.open(ctx)
	}
	if c.entries != nil && !now.Before(c.renewAt) && c.renewAll(ctx) {
		c.confirmed = time.Since(c.base)
	}
	listed := c.entries != nil && !c.view.listing
	if listed && c.problem != "" {
		c.problem = ""
		c.opts.Log.Info().Str("replica", c.opts.Replica.ID).Dur("ttl_ms", c.ttl).Msg("the leases are in reach")
	}
	if listed || c.leaving {
		c.rebalance(ctx, time.Now())
		c.probe(ctx, time.Now())
	}
	// After a standstill only an answer of the store tells what became of the
	// leases, and what was lost must be closed before the rest goes on.
	if !c.fenced() || int64(c.confirmed) > c.alive.Load() && !c.closing() {
		c.alive.Store(int64(time.Since(c.base)))
	}
}

// fenced: see Lease.Fenced.
func (c *Coordinator) fenced() bool {
	limit := c.limit.Load()
	return limit > 0 && int64(time.Since(c.base))-c.alive.Load() > limit
}

func (c *Coordinator) closing() bool {
	for _, l := range c.leases {
		if l.phase == losing {
			return true
		}
	}
	return false
}

// next is when there is something to do without an event.
func (c *Coordinator) next(now time.Time) time.Time {
	if c.entries == nil {
		return c.openAt
	}
	next := c.renewAt
	for _, at := range []time.Time{c.retryAt, c.graceUntil, c.probeAt, c.view.nextExpiry(now)} {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next
}

// store makes one request and notes that it was answered.
func (c *Coordinator) store(ctx context.Context, request func(context.Context) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.ttl/answers)
	defer cancel()
	revision, err := request(ctx)
	if err == nil || errors.Is(err, ErrChanged) || errors.Is(err, ErrAbsent) {
		c.contact = time.Now()
	}
	return revision, err
}

func (c *Coordinator) read(ctx context.Context, key string) (e Entry, err error) {
	_, err = c.store(ctx, func(ctx context.Context) (uint64, error) {
		e, err = c.opts.Store.Read(ctx, key)
		return e.Revision, err
	})
	return e, err
}

// open finds the store and begins to look at it.
func (c *Coordinator) open(ctx context.Context) {
	patience := 5 * time.Second
	if c.ttl > 0 { // a round that takes as long as a lease lives is a standstill
		patience = min(patience, c.ttl/2)
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ttl, err := c.opts.Store.Open(bounded)
	if err != nil {
		c.failed(err)
		return
	}
	now := time.Now()
	first := c.contact.IsZero()
	if first {
		c.alive.Store(int64(now.Sub(c.base)))
	}
	c.ttl = ttl
	c.limit.Store(int64(ttl))
	c.view = newView(ttl)
	c.follow(ctx)
	c.renewAt = now
	// The others' leases may have expired while nobody could renew them, or be gone
	// with the bucket. The first replica back must not take everything.
	c.graceUntil = now.Add(c.ttl)
	if first {
		c.graceUntil = now.Add(c.ttl / settles)
	}
	c.contact = now
}

// follow begins to look at the store; what it shows comes in entries.
func (c *Coordinator) follow(ctx context.Context) {
	entries := make(chan Entry, 64) // what comes together is taken in together
	ctx, c.stopFollowing = context.WithCancel(ctx)
	c.entries = entries
	c.wait.Go(func() {
		err := c.opts.Store.Follow(ctx, entries)
		select {
		case entries <- Entry{Ended: err}:
		case <-ctx.Done():
		}
	})
}

// unfollow ends that.
func (c *Coordinator) unfollow() {
	if c.entries != nil {
		c.stopFollowing()
		c.entries = nil
	}
}

// failed: the store did not do what it was asked. Everything held stays: the broker
// decides who is connected.
func (c *Coordinator) failed(err error) {
	if c.problem == "" {
		c.problemSince = time.Now()
	}
	if text := err.Error(); text != c.problem {
		c.problem = text
		c.opts.Log.Warn().Str("component", "leases").AnErr("problem", err).Int("partitions", len(c.leases)).
			Msg("the leases cannot be reached: what this replica leases it keeps, unless the broker gives a connection to another")
	}
	c.unfollow()
	c.openAt = time.Now().Add(min(reopen, max(c.ttl/10, 100*time.Millisecond)))
}

// observe takes in what the follower of the store shows.
func (c *Coordinator) observe(e Entry) {
	for more := true; more; {
		switch {
		case errors.Is(e.Ended, kv.ErrReadAgain):
			c.unfollow()
			c.openAt = time.Now()
			return
		case e.Ended != nil:
			c.failed(fmt.Errorf("follow the leases: %w", e.Ended))
			return
		}
		c.view.apply(e, time.Now())
		select {
		case e = <-c.entries:
		default:
			more = false
		}
	}
	for p := range c.lapsed {
		if seen := c.view.leases[p]; seen.Owner != "" && seen.Owner != c.opts.Replica.ID {
			delete(c.lapsed, p)
		}
	}
	for p, l := range c.leases {
		seen := c.view.leases[p]
		if l.phase == holding && seen.revision > l.revision && seen.Owner != c.opts.Replica.ID {
			l.why = "replica " + seen.Owner + " at " + seen.Host + " has it"
			c.lose(l)
		}
	}
}

// renewAll says that this replica is there and renews what it leases; the answer is
// whether all of it was confirmed or found lost.
func (c *Coordinator) renewAll(ctx context.Context) bool {
	c.renewAt = time.Now().Add(c.ttl / renewals)
	ctx, cancel := context.WithDeadline(ctx, c.renewAt)
	defer cancel()
	me := c.opts.Replica
	me.Leaving, me.Connected, me.Standby = c.leaving, c.connected(), c.standby
	// First: it expires first, too, so that nobody gives a dead replica a share.
	_, err := c.store(ctx, func(ctx context.Context) (uint64, error) {
		return c.opts.Store.Put(ctx, replicaKey+me.ID, encode(me))
	})
	if err != nil {
		c.failed(fmt.Errorf("say that this replica is there: %w", err))
		return false
	}
	for _, p := range c.opts.Partitions {
		l := c.leases[p]
		if l == nil || l.phase == losing {
			continue
		}
		switch was, err := c.renew(ctx, l); was {
		case lost:
			c.lose(l)
		case unknown:
			if !errors.Is(err, ErrChanged) {
				c.failed(fmt.Errorf("renew the lease of partition %s: %w", p, err))
				return false
			}
		}
	}
	return true
}
