package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// phase is the state of a lease.
type phase int

const (
	leased   phase = iota
	draining       // its lane drains; the lease is renewed until then
	losing         // its lane is being closed: another replica has the lease, or may have it
)

// Lease is a partition that this replica leases. The session of its lane calls WaitToConnect before
// it reconnects.
type Lease struct {
	coordinator *Coordinator
	partition   string
	since       time.Time

	// Used only by the coordinator's loop.
	phase    phase
	revision uint64
	// expires uses this machine's monotonic clock and is counted from before the lease was written.
	expires time.Time
	session bool
}

// WaitToConnect returns nil when the session may reconnect. A connection can end because another
// replica has taken over the partition, which MQTT 3.1.1 does not report. So the lease is renewed
// first, which only its owner can do. If the bucket cannot be reached, the session may connect as
// long as the lease cannot have expired. If the lease is lost, the lane is closed, ctx ends and its
// error is returned.
func (l *Lease) WaitToConnect(ctx context.Context) error {
	granted := make(chan struct{})
	ask := func(ctx context.Context) {
		if l.coordinator.mayConnect(ctx, l) {
			close(granted)
		}
	}
	select {
	case l.coordinator.events <- ask:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fenced reports whether this process was suspended for longer than the lifetime of a lease and
// does not know the state of its leases yet. Until it does, nothing may be read from a connection's
// buffer or sent a second time: another replica may have stored it so long ago that JetStream no
// longer recognises the duplicate.
func (l *Lease) Fenced() bool { return l.coordinator.fence.up() }

// lostError means that another replica has the lease, or may have it; its text is the reason.
type lostError string

func (e lostError) Error() string { return string(e) }

func ownedBy(r Record) lostError {
	if r.Owner == "" {
		return "another replica has leased it since"
	}
	return lostError("replica " + r.Owner + " at " + r.Host + " has it")
}

// renewAll announces this replica and renews its leases. It reports whether every lease was
// confirmed or found lost.
func (c *Coordinator) renewAll(ctx context.Context) bool {
	c.renewAt = time.Now().Add(c.view.ttl / renewDivisor)
	ctx, cancel := context.WithDeadline(ctx, c.renewAt)
	defer cancel()
	self := c.opts.Replica
	self.Leaving, self.Connected, self.Standby = c.leaving != nil, c.connected(), c.standby
	// Announce first: the announcement then also expires first, so that a dead replica gets no
	// share.
	if err := c.announce(ctx, self); err != nil {
		c.failed(fmt.Errorf("announce this replica: %w", err))
		return false
	}
	for _, p := range c.opts.Partitions {
		l := c.leases[p]
		if l == nil || l.phase == losing {
			continue
		}
		var lost lostError
		switch err := c.renew(ctx, l); {
		case errors.As(err, &lost):
			c.lose(l, lost)
		case err != nil && !errors.Is(err, ErrChanged):
			c.failed(fmt.Errorf("renew the lease of partition %s: %w", p, err))
			return false
		}
	}
	return true
}

func (c *Coordinator) announce(ctx context.Context, self Replica) error {
	bounded, cancel := context.WithTimeout(ctx, c.view.ttl/requestDivisor)
	defer cancel()
	_, err := c.opts.Store.Put(bounded, replicaKey+self.ID, encode(self))
	return err
}

// renew writes the lease again. A lostError means that this replica no longer has it. After
// ErrChanged the next renewal decides.
func (c *Coordinator) renew(ctx context.Context, l *Lease) error {
	l.session = l.session || c.opts.Lanes.Connected(l.partition)
	err := c.write(ctx, l, c.record(l), l.revision)
	if !errors.Is(err, ErrChanged) {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, c.view.ttl/requestDivisor)
	defer cancel()
	e, err := c.opts.Store.Read(bounded, partitionKey(l.partition))
	switch {
	case errors.Is(err, ErrAbsent):
		// It expired while the bucket could not be reached. If another replica had acquired it
		// since, the broker would have closed this connection.
		if !c.opts.Lanes.Connected(l.partition) {
			return lostError("it expired")
		}
		return c.write(ctx, l, c.record(l), 0)
	case err != nil:
		return err
	}
	var r Record
	if json.Unmarshal(e.Value, &r) == nil && r.Owner == c.opts.Replica.ID {
		// An earlier write was stored although it seemed to fail.
		return c.write(ctx, l, c.record(l), e.Revision)
	}
	return ownedBy(r)
}

func (c *Coordinator) record(l *Lease) Record {
	return Record{Owner: c.opts.Replica.ID, Host: c.opts.Replica.Host, Since: l.since, Session: l.session}
}

func (c *Coordinator) write(ctx context.Context, l *Lease, r Record, over uint64) error {
	bounded, cancel := context.WithTimeout(ctx, c.view.ttl/requestDivisor)
	defer cancel()
	begun := time.Now()
	revision, err := c.opts.Store.Write(bounded, partitionKey(l.partition), encode(r), over)
	if err == nil {
		l.revision, l.expires = revision, begun.Add(c.view.ttl)
	}
	return err
}

// mayConnect decides whether a session may connect again.
func (c *Coordinator) mayConnect(ctx context.Context, l *Lease) bool {
	if l.phase != leased || c.leases[l.partition] != l {
		return false // its lane is being closed
	}
	if c.entries != nil {
		var lost lostError
		switch err := c.renew(ctx, l); {
		case err == nil:
			return true
		case errors.As(err, &lost):
			c.lose(l, lost)
			return false
		case !errors.Is(err, ErrChanged):
			c.failed(fmt.Errorf("confirm the lease of partition %s: %w", l.partition, err))
		}
	}
	if time.Now().Before(l.expires) {
		return true
	}
	c.lapsed[l.partition] = true
	c.lose(l, "it may have expired, and the bucket cannot be reached")
	return false
}
