package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/sleep"
)

// acquire opens the lane of a partition that was assigned to this replica. It returns immediately.
// If opening fails, it retries for openTimeout: the configuration was valid at the start, so a file
// may be missing temporarily. After that the bridge exits, so that other replicas acquire the
// partition.
//
// The journal is always in memory, even if state_dir is set: on disk it would become stale while
// another replica has the partition. A stale journal is harmless but useless, and replicas should
// be disposable. It is harmless because it identifies an attested message by a hash of its topic,
// which contains the broker's own id: messages that it marks as stored are stored.
func (u *laneUnit) acquire(r *replicas, l *lease.Lease, hadSession bool) {
	opening := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	u.mu.Lock()
	u.owned, u.opening, u.endOpen = true, opening, cancel
	u.mu.Unlock()
	u.opened.Clear()
	u.opened.SetAs(zerolog.NoLevel, "", errors.New("being opened"))
	go func() { // release ends the goroutine, and waits for it until its own context ends
		defer close(opening)
		begun := time.Now()
		for {
			err := u.open(ctx, r.shared, journal.New(), claim{of: l, hadSession: hadSession})
			if err == nil || ctx.Err() != nil {
				return
			}
			if time.Since(begun) > openTimeout {
				r.bridge.fail(err)
				return
			}
			u.opened.SetAs(zerolog.ErrorLevel, "the lane cannot be opened; trying again", err)
			if !sleep.For(ctx, time.Second) {
				return
			}
		}
	}()
}

// openTimeout is the time for which a partition may have no lane because its owner cannot open it.
const openTimeout = 30 * time.Second

// release closes the lane and returns the number of messages that were unsettled when ctx ended.
func (u *laneUnit) release(ctx context.Context) (abandoned int) {
	u.mu.Lock()
	opening, end := u.opening, u.endOpen
	u.mu.Unlock()
	end()
	select {
	case <-opening:
	case <-ctx.Done(): // an attempt to connect is in progress; open ends after it
	}
	abandoned = u.stop(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.reading()
	u.past.add(&r)
	u.owned = false
	u.opened.Clear()
	u.lane, u.journal, u.publisher, u.session = nil, nil, nil, nil
	u.last, u.unstored = nil, time.Time{}
	return abandoned
}

func (u *laneUnit) connected() bool {
	_, _, session := u.parts()
	return session != nil && session.Status().Connected
}
