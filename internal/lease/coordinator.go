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

// Lanes opens and closes the lanes of leased partitions. The coordinator calls ProbeBroker, Close
// and Abandon on separate goroutines: ProbeBroker one at a time, the others one at a time per
// partition.
type Lanes interface {
	// Open begins to open the partition's lane and returns immediately. hadSession means that the
	// broker had a session for it when a replica was last connected.
	Open(partition string, lease *Lease, hadSession bool)
	// Connected reports whether the lane's session is connected.
	Connected(partition string) bool
	// ProbeBroker connects to the broker like a lane, under a separate client id, and disconnects.
	ProbeBroker(ctx context.Context) error
	// Close drains the lane until ctx ends and returns when its session has disconnected. It
	// returns how many messages were not stored.
	Close(ctx context.Context, partition string) (abandoned int)
	// Abandon closes the lane without draining: the broker still has all its messages.
	Abandon(partition string)
}

// Options describes a coordinator. All fields except Admitted, Advice and Log are required.
type Options struct {
	Store      Store
	Lanes      Lanes
	Partitions []string // all partitions
	Replica    Replica  // of this replica
	// Admitted is closed once this replica may acquire leases; until then it does not participate.
	// nil: immediately.
	Admitted <-chan struct{}
	// DrainTimeout bounds the draining of a lane whose partition goes to another replica.
	DrainTimeout time.Duration
	// Advice returns what can be done about a [BucketError], an [OtherBrokerError], or an error of
	// [Lanes].ProbeBroker, for the log; nil: none.
	Advice func(error) string
	Log    zerolog.Logger
}

// Coordinator leases a replica's share of the partitions. It runs on one goroutine, the loop; the
// rest of the program sends events to it.
type Coordinator struct {
	opts      Options
	cancel    context.CancelFunc
	wait      sync.WaitGroup
	events    chan func(context.Context) // events for the loop
	done      chan struct{}
	fence     fence
	published atomic.Pointer[Status]

	// Used only by the loop.
	entries   <-chan Entry // of the open bucket; nil: it is not open
	unfollow  context.CancelFunc
	openAt    time.Time
	renewAt   time.Time
	retryAt   time.Time // when to retry acquiring leases that should have expired
	view      *view
	leases    map[string]*Lease // by partition
	lapsed    map[string]bool   // lost by expiry: no other replica can have been connected
	standby   bool              // see Replica.Standby
	probe     probe
	leaving   context.Context // of Close, whose work the loop does; nil: not stopping
	abandoned int
	status    Status // events and counts; report adds the rest
}

// These are intervals of the coordinator, as divisors of the TTL.
const (
	renewDivisor   = 3  // renewal interval of a lease
	requestDivisor = 5  // timeout of a request to the bucket
	settleDivisor  = 10 // time that a new replica waits for others that start with it
)

// reopen is the delay before the bucket is opened again. retry is the delay before another attempt
// to acquire a lease that should have expired.
const (
	reopen = time.Second
	retry  = 500 * time.Millisecond
)

// Open starts a coordinator. Close must be called.
func Open(o Options) *Coordinator {
	ctx, cancel := context.WithCancel(context.Background())
	now := time.Now()
	c := &Coordinator{
		opts: o, cancel: cancel, events: make(chan func(context.Context)), done: make(chan struct{}),
		fence: fence{base: now}, view: newView(0, now, map[string]seenReplica{}),
		leases: map[string]*Lease{}, lapsed: map[string]bool{},
		status: Status{Replica: o.Replica, Err: &BucketError{errors.New("not reached yet")}, Since: now},
	}
	c.report(now)
	go c.run(ctx)
	return c
}

// Close hands over every partition until ctx ends, and returns how many messages were not stored:
// the broker still has them.
func (c *Coordinator) Close(ctx context.Context) (abandoned int) {
	select {
	case c.events <- func(context.Context) { c.leave(ctx) }:
	case <-c.done:
	}
	<-c.done
	c.cancel()
	c.wait.Wait()
	return c.abandoned
}

func (c *Coordinator) leave(until context.Context) {
	c.leaving = until
	c.renewAt = time.Time{} // announce it immediately
	if c.probe.cancel != nil {
		c.probe.cancel()
	}
}

func (c *Coordinator) run(ctx context.Context) {
	defer close(c.done)
	if c.opts.Admitted != nil {
		select {
		case <-c.opts.Admitted:
		case <-c.events: // only that of Close, as long as nothing is leased
			return
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.pass(ctx, time.Now())
		c.report(time.Now())
		if c.leaving != nil && len(c.leases) == 0 && c.probe.cancel == nil {
			return
		}
		timer.Reset(time.Until(c.next(time.Now())))
		select {
		case <-timer.C:
		case e := <-c.entries:
			c.observe(e)
		case event := <-c.events:
			event(ctx)
		}
	}
}

// pass does everything that is due.
func (c *Coordinator) pass(ctx context.Context, now time.Time) {
	if c.entries == nil && !now.Before(c.openAt) {
		c.open(ctx)
	}
	if c.entries != nil && !now.Before(c.renewAt) && c.renewAll(ctx) {
		c.fence.confirm()
	}
	listed := c.entries != nil && !c.view.listing
	if listed && c.status.Err != nil {
		c.status.Err = nil
		c.opts.Log.Info().Str("replica", c.opts.Replica.ID).Dur("ttl_ms", c.view.ttl).Msg("lease bucket reachable")
	}
	switch {
	case c.leaving != nil:
		for _, l := range c.leases {
			c.handOver(c.leaving, l)
		}
	case listed:
		c.rebalance(ctx, time.Now())
		c.probeIfDue(ctx, time.Now())
	}
	c.fence.pass(c.losing())
}

// losing reports whether a lane whose lease is lost is still being closed.
func (c *Coordinator) losing() bool {
	for _, l := range c.leases {
		if l.phase == losing {
			return true
		}
	}
	return false
}

// next returns when something is due without an event.
func (c *Coordinator) next(now time.Time) time.Time {
	if c.entries == nil {
		return c.openAt
	}
	next := c.renewAt
	for _, at := range []time.Time{c.retryAt, c.view.graceUntil, c.probe.at, c.view.nextExpiry(now)} {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next
}

// open opens the bucket and begins to follow it.
func (c *Coordinator) open(ctx context.Context) {
	timeout, first := 5*time.Second, c.view.ttl == 0
	if !first { // a pass that takes a whole TTL means that the process was suspended
		timeout = min(timeout, c.view.ttl/2)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ttl, err := c.opts.Store.Open(bounded)
	if err != nil {
		c.failed(err)
		return
	}
	now := time.Now()
	c.fence.expect(ttl)
	// The others' leases may have expired while they could not be renewed, or may be gone with the
	// bucket. The first replica back must not acquire all of them.
	grace := ttl
	if first {
		grace = ttl / settleDivisor
	}
	c.view, c.renewAt = newView(ttl, now.Add(grace), c.view.replicas), now

	entries := make(chan Entry, 64) // buffered, so that a burst of entries is processed in one pass
	follow, unfollow := context.WithCancel(ctx)
	c.entries, c.unfollow = entries, unfollow
	c.wait.Go(func() {
		err := c.opts.Store.Follow(follow, entries)
		select {
		case entries <- Entry{Ended: err}:
		case <-follow.Done():
		}
	})
}

// closeBucket closes the bucket; it is opened again later.
func (c *Coordinator) closeBucket(openAt time.Time) {
	if c.entries != nil {
		c.unfollow()
		c.entries = nil
	}
	c.openAt = openAt
}

// failed records a failed request to the bucket. The replica keeps its leases: the broker decides
// which replica is connected.
func (c *Coordinator) failed(err error) {
	now, before := time.Now(), c.status.Err
	if before == nil {
		c.status.Since = now
	}
	if before == nil || before.Error() != err.Error() {
		c.status.Err = &BucketError{err}
		c.problem(zerolog.WarnLevel, c.status.Err).AnErr("problem", err).Int("partitions", len(c.leases)).
			Msg("lease bucket unreachable, keeping current leases")
	}
	c.closeBucket(now.Add(min(reopen, max(c.view.ttl/10, 100*time.Millisecond))))
}

// problem begins a log line about err, with the advice if there is any.
func (c *Coordinator) problem(level zerolog.Level, err error) *zerolog.Event {
	line := c.opts.Log.WithLevel(level).Str("component", "leases")
	if c.opts.Advice != nil {
		if text := c.opts.Advice(err); text != "" {
			line.Str("advice", text)
		}
	}
	return line
}

// observe processes an entry of the bucket.
func (c *Coordinator) observe(e Entry) {
	for more := true; more; {
		switch {
		case errors.Is(e.Ended, kv.ErrReadAgain):
			c.closeBucket(time.Now())
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
	for _, p := range c.opts.Partitions {
		seen := c.view.leases[p]
		if seen.Owner == c.opts.Replica.ID {
			continue
		}
		if seen.Owner != "" {
			delete(c.lapsed, p)
		}
		if l := c.leases[p]; l != nil && seen.revision > l.revision {
			c.lose(l, ownedBy(seen.Record))
		}
	}
}
