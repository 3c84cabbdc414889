package daemon

import (
	"context"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/lease"
)

// take opens the lane of a partition that this replica now holds. It returns at
// once, and where that fails tries again, for openPatience: the configuration was in order
// at the start, so a file that it names is missing, perhaps for a moment. After that the bridge
// ends, for others to take what it cannot.
//
// The journal is in memory, whatever state_dir says: on disk it would go stale
// while another replica has the partition. Not that a stale one could do harm. It
// knows an attested message by a hash of its topic, which holds the broker's own
// id: what it calls stored is stored. But it would be of no use either, and the
// replica is to be disposable.
func (u *laneUnit) take(r *replicas, l *lease.Lease, hadSession bool) {
	opening := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	u.mu.Lock()
	u.held, u.opening, u.endOpen = true, opening, cancel
	u.problem, u.since = "being opened", time.Now()
	u.mu.Unlock()
	go func() { // give ends it, and waits for it
		defer close(opening)
		begun := time.Now()
		for {
			err := u.open(r.shared, bridge.NewJournal(), claim{of: l, hadSession: hadSession})
			if err == nil {
				return
			}
			if time.Since(begun) > openPatience {
				r.bridge.fail(err)
				return
			}
			u.mu.Lock()
			news := u.problem != err.Error()
			u.problem = err.Error()
			u.mu.Unlock()
			if news {
				u.log.Error().Str("component", "lane").Err(err).Msg("the lane cannot be opened; trying again")
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}()
}

// openPatience is how long a partition may be nobody's because its holder cannot open
// the lane.
const openPatience = 30 * time.Second

// give closes the lane again and returns how many messages were left unsettled when
// ctx ended.
func (u *laneUnit) give(ctx context.Context, sessions *chorus) (abandoned int) {
	u.mu.Lock()
	opening, end := u.opening, u.endOpen
	u.mu.Unlock()
	end()
	<-opening
	abandoned = u.stop(ctx)
	sessions.silent(u.plan.ClientID)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.reading()
	u.past.add(&r)
	u.held, u.problem, u.since = false, "", time.Now()
	u.lane, u.journal, u.publisher, u.session = nil, nil, nil, nil
	u.last, u.unstored = nil, time.Time{}
	return abandoned
}

func (u *laneUnit) connected() bool {
	_, _, session := u.parts()
	return session != nil && session.Status().Connected
}
