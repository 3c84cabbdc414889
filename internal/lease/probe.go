package lease

import (
	"context"
	"errors"
	"slices"
	"time"
)

// connected tells whether this replica reaches the broker.
func (c *Coordinator) connected() bool {
	for p := range c.leases {
		if c.opts.Lanes.Connected(p) {
			c.laneConnected, c.failedAssignments, c.pausedUntil = true, 0, time.Time{}
			return true
		}
	}
	return len(c.leases) == 0 && c.reached
}

// probe finds out whether a replica without any lane reaches the broker, where there are
// others: on that depends whether it is given a share.
func (c *Coordinator) probe(ctx context.Context, now time.Time) {
	if len(c.leases) > 0 {
		c.reached = false // its lanes tell
		if !c.standby {
			c.unreached = nil
		}
		return
	}
	if now.Before(c.pausedUntil) && c.view.reachedByAnother(c.opts.Replica.ID, now) {
		c.pauseProbing(now)
		return
	}
	if c.cancelProbe != nil || c.leaving || now.Before(c.probeAt) || len(c.view.present(now)) < 2 {
		return
	}
	ctx, c.cancelProbe = context.WithCancel(ctx)
	c.wait.Go(func() { c.probes <- c.opts.Lanes.ProbeBroker(ctx) })
}

// updateStandby decides whether this replica is out (see Replica.Standby). Where all are, none
// is; but those that come back with the store are waited for.
func (c *Coordinator) updateStandby(members []string, now time.Time) {
	r := c.view.replicas[c.opts.Replica.ID]
	if r.Standby != c.standby {
		return // what this replica said last has not come back yet
	}
	member := slices.Contains(members, r.ID)
	believed := r.trusted(now, c.ttl) || r.Connected && c.acquired == 0 // which never lost any
	if !c.standby && !member || c.standby && (believed || member && !now.Before(c.graceUntil)) {
		c.standby = !c.standby
		c.renewAt = time.Time{} // the others are to know at once
		if c.standby && !c.laneConnected {
			c.assignmentFailed(now)
		}
		c.laneConnected = false
	}
}

// firstPause is how long a replica whose lanes never connected leaves the broker alone
// when that happens a second time, and twice as long each time after, up to maxPause;
// but only as long as another has the broker.
const (
	firstPause = 2 * time.Minute
	maxPause   = 30 * time.Minute
)

var errLanesFail = errors.New("the broker can be reached, but none of the assigned lanes connects")

// assignmentFailed puts the next probe off: it says nothing of what keeps the lanes, and to give
// them to this replica costs their devices' messages a wait each time.
func (c *Coordinator) assignmentFailed(now time.Time) {
	if c.acquired == 0 {
		return // it had none
	}
	if c.failedAssignments++; c.failedAssignments < 2 {
		return
	}
	c.pausedUntil = now.Add(min(firstPause<<min(c.failedAssignments-2, 10), maxPause))
	c.pauseProbing(now)
}

// pauseProbing: what a probe found while nobody had the broker does not count either.
func (c *Coordinator) pauseProbing(now time.Time) {
	if c.reached {
		c.reached, c.renewAt = false, time.Time{} // the others are to know at once
	}
	if c.unreached == nil {
		c.unreachedAt = now
		c.opts.Log.Error().Str("component", "leases").AnErr("problem", errLanesFail).Msg("this replica's lanes do not connect, and it is given partitions seldom")
	}
	c.unreached = errLanesFail
}

// probed is told how a probe went.
func (c *Coordinator) probed(err error) {
	c.cancelProbe()
	c.cancelProbe, c.probeAt = nil, time.Now().Add(c.ttl)
	if len(c.leases) > 0 || c.leaving {
		return
	}
	if c.reached != (err == nil) {
		c.renewAt = time.Time{} // the others are to know at once
	}
	c.reached = err == nil
	if err == nil {
		c.unreached = nil
		return
	}
	if c.unreached == nil {
		c.unreachedAt = time.Now()
		c.opts.Log.Warn().Str("component", "leases").AnErr("problem", err).Msg("this replica cannot reach the broker and is given no partitions")
	}
	c.unreached = err
}
