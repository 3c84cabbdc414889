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

// Hold is a partition that this replica holds. Its lane's session asks it before
// it connects again.
type Hold struct {
	keeper    *Keeper
	partition string
	since     time.Time

	// Of the keeper's loop.
	phase    phase
	revision uint64
	// until is when the lease expires by this machine's own monotonic clock,
	// counted from before it was written.
	until   time.Time
	session bool
	// why the lease was lost.
	why string
}

// Permit returns when the session may connect again, nil: it may. A connection
// may have ended because another replica has the partition now, and MQTT 3.1.1 has
// no word for that. So the lease is renewed first: only its holder can. Where the
// store cannot be reached, the session may connect as long as the lease cannot
// have expired. Where the lease is lost the lane is closed, and with it ends ctx:
// then the error is ctx's.
func (h *Hold) Permit(ctx context.Context) error {
	asked := ask{h, make(chan struct{})}
	select {
	case h.keeper.asks <- asked:
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
func (h *Hold) Fenced() bool { return h.keeper.fenced() }

// ask is a session's question whether it may connect.
type ask struct {
	hold    *Hold
	granted chan struct{} // closed: it may
}

// standing is what the store says of a hold.
type standing int

const (
	stands  standing = iota
	lost             // another has it, or had
	unknown          // the store did not say
)

// renew writes the lease anew and thereby learns whether it still is this
// replica's. The error is what kept the store from answering.
func (k *Keeper) renew(ctx context.Context, h *Hold) (standing, error) {
	h.session = h.session || k.opts.Lanes.Connected(h.partition)
	err := k.write(ctx, h, h.revision)
	if !errors.Is(err, ErrChanged) {
		return standingOf(err)
	}
	e, err := k.read(ctx, partitionKey(h.partition))
	switch {
	case errors.Is(err, ErrAbsent):
		// It expired while the store could not be reached. If another had
		// taken it since, the broker would have closed this connection.
		if !k.opts.Lanes.Connected(h.partition) {
			h.why = "it expired"
			return lost, nil
		}
		return k.rewrite(ctx, h, 0)
	case err != nil:
		return unknown, err
	}
	var r Record
	if decode(e.Value, &r) && r.Holder == k.opts.Replica.ID {
		// A write that was thought to have failed.
		return k.rewrite(ctx, h, e.Revision)
	}
	h.why = "replica " + r.Holder + " at " + r.Host + " has it"
	if r.Holder == "" {
		h.why = "another replica has had it"
	}
	return lost, nil
}

// rewrite writes the lease over another revision. That somebody else is faster is
// found out the next time.
func (k *Keeper) rewrite(ctx context.Context, h *Hold, revision uint64) (standing, error) {
	return standingOf(k.write(ctx, h, revision))
}

func standingOf(err error) (standing, error) {
	if err != nil {
		return unknown, err
	}
	return stands, nil
}

func (k *Keeper) write(ctx context.Context, h *Hold, over uint64) error {
	begun := time.Now()
	revision, err := k.store(ctx, func(ctx context.Context) (uint64, error) {
		return k.opts.Store.Write(ctx, partitionKey(h.partition), encode(Record{
			Holder: k.opts.Replica.ID, Host: k.opts.Replica.Host, Since: h.since, Session: h.session,
		}), over)
	})
	if err == nil {
		h.revision, h.until = revision, begun.Add(k.ttl)
	}
	return err
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
