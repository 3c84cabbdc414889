package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// phase is how far a hold has come.
type phase int

const (
	holding phase = iota
	leaving       // its lane runs empty; the lease is kept until it has
	losing        // its lane is being closed: the lease is another's, or may be
)

// Lease is a partition that this replica leases. Its lane's session requests it before
// it connects again.
type Lease struct {
	coordinator *Coordinator
	partition   string
	since       time.Time

	// Of the coordinator's loop.
	phase    phase
	revision uint64
	// until is when the lease expires by this machine's own monotonic clock,
	// counted from before it was written.
	until   time.Time
	session bool
	// why the lease was lost.
	why string
}

// WaitToConnect returns when the session may connect again, nil: it may. A connection
// may have ended because another replica has the partition now, and MQTT 3.1.1 has
// no word for that. So the lease is renewed first: only its holder can. Where the
// store cannot be reached, the session may connect as long as the lease cannot
// have expired. Where the lease is lost the lane is closed, and with it ends ctx:
// then the error is ctx's.
func (l *Lease) WaitToConnect(ctx context.Context) error {
	asked := ask{l, make(chan struct{})}
	select {
	case l.coordinator.requests <- asked:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-asked.granted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fenced tells that this process stood still for longer than a lease lives, and has
// not found out yet what became of its leases. Until it has, nothing may be taken
// from a connection's buffer or sent a second time: another replica may have
// stored it so long ago that JetStream does not know it as a duplicate any more.
func (l *Lease) Fenced() bool { return l.coordinator.fenced() }

// ask is a session's question whether it may connect.
type ask struct {
	lease   *Lease
	granted chan struct{} // closed: it may
}

// standing is what the store says of a hold.
type standing int

const (
	confirmed standing = iota
	lost               // another has it, or had
	unknown            // the store did not say
)

// renew writes the lease anew and thereby learns whether it still is this
// replica's. The error is what kept the store from answering.
func (c *Coordinator) renew(ctx context.Context, l *Lease) (standing, error) {
	l.session = l.session || c.opts.Lanes.Connected(l.partition)
	err := c.write(ctx, l, l.revision)
	if !errors.Is(err, ErrChanged) {
		return standingOf(err)
	}
	e, err := c.read(ctx, partitionKey(l.partition))
	switch {
	case errors.Is(err, ErrAbsent):
		// It expired while the store could not be reached. If another had
		// taken it since, the broker would have closed this connection.
		if !c.opts.Lanes.Connected(l.partition) {
			l.why = "it expired"
			return lost, nil
		}
		return c.rewrite(ctx, l, 0)
	case err != nil:
		return unknown, err
	}
	var r Record
	if decode(e.Value, &r) && r.Owner == c.opts.Replica.ID {
		// A write that was thought to have failed.
		return c.rewrite(ctx, l, e.Revision)
	}
	l.why = "replica " + r.Owner + " at " + r.Host + " has it"
	if r.Owner == "" {
		l.why = "another replica has had it"
	}
	return lost, nil
}

// rewrite writes the lease over another revision. That somebody else is faster is
// found out the next time.
func (c *Coordinator) rewrite(ctx context.Context, l *Lease, revision uint64) (standing, error) {
	return standingOf(c.write(ctx, l, revision))
}

func standingOf(err error) (standing, error) {
	if err != nil {
		return unknown, err
	}
	return confirmed, nil
}

func (c *Coordinator) write(ctx context.Context, l *Lease, over uint64) error {
	begun := time.Now()
	revision, err := c.store(ctx, func(ctx context.Context) (uint64, error) {
		return c.opts.Store.Write(ctx, partitionKey(l.partition), encode(Record{
			Owner: c.opts.Replica.ID, Host: c.opts.Replica.Host, Since: l.since, Session: l.session,
		}), over)
	})
	if err == nil {
		l.revision, l.until = revision, begun.Add(c.ttl)
	}
	return err
}

// grant decides whether a session may connect again.
func (c *Coordinator) grant(ctx context.Context, a ask) {
	l := a.lease
	if l.phase != holding || c.leases[l.partition] != l {
		return // its lane is being closed
	}
	was, err := unknown, error(nil)
	if c.entries != nil {
		was, err = c.renew(ctx, l)
	}
	switch {
	case was == lost:
		c.lose(l)
		return
	case was == unknown && err != nil && !errors.Is(err, ErrChanged):
		c.failed(fmt.Errorf("confirm the lease of partition %s: %w", l.partition, err))
	}
	if was == unknown && !time.Now().Before(l.until) {
		l.why = "it may have expired, and the leases cannot be reached"
		c.lapsed[l.partition] = true
		c.lose(l)
		return
	}
	close(a.granted)
}
