package lease

import (
	"context"
	"errors"
	"time"
)

// probe is what a replica knows of its way to the broker while it leases nothing, and the
// back-off after assignments that failed.
type probe struct {
	cancel  context.CancelFunc // of the one in progress; nil: none is
	at      time.Time          // when the next one begins
	reached bool               // the latest one reached the broker
	// served: a lane has been connected since this replica last went on standby or came
	// back. Else that assignment has failed when it goes on standby.
	served   bool
	failed   int       // such assignments in a row
	pausedTo time.Time // until then no probe begins while another replica has the broker
}

// firstPause is the back-off after two failed assignments in a row. It doubles with each
// one more, up to maxPause.
const (
	firstPause = 2 * time.Minute
	maxPause   = 30 * time.Minute
)

// pause is the back-off after so many failed assignments in a row. A probe says nothing of
// what keeps the lanes, and each assignment costs their devices' messages a wait.
func pause(failed int) time.Duration {
	if failed < 2 {
		return 0
	}
	return min(firstPause<<min(failed-2, 10), maxPause)
}

var errLanesFail = errors.New("the broker can be reached, but none of the assigned lanes connects")

// connected reports whether this replica reaches the broker.
func (c *Coordinator) connected() bool {
	for p := range c.leases {
		if c.opts.Lanes.Connected(p) {
			c.probe.served, c.probe.failed, c.probe.pausedTo = true, 0, time.Time{}
			return true
		}
	}
	return len(c.leases) == 0 && c.probe.reached
}

// updateStandby decides whether this replica is on standby (see Replica.Standby). Where all
// are, none is; but those that come back with the bucket are waited for.
func (c *Coordinator) updateStandby(member bool, now time.Time) {
	self := c.view.replicas[c.opts.Replica.ID]
	if self.Standby != c.standby {
		return // what this replica announced last has not come back yet
	}
	believed := self.trusted(now, c.view.ttl) || self.Connected && c.status.Acquired == 0 // which never lost any
	switch {
	case !c.standby && !member:
		c.standby = true
		if !c.probe.served && c.status.Acquired > 0 {
			c.probe.failed++
			if d := pause(c.probe.failed); d > 0 {
				c.probe.pausedTo = now.Add(d)
				c.reached(errLanesFail)
			}
		}
	case c.standby && (believed || member && !now.Before(c.view.graceUntil)):
		c.standby = false
	default:
		return
	}
	c.probe.served = false
	c.renewAt = time.Time{} // the others are to know immediately
}

// probeIfDue finds out whether a replica without any lane reaches the broker, where there
// are others: on that depends whether it is given a share.
func (c *Coordinator) probeIfDue(ctx context.Context, now time.Time) {
	switch {
	case len(c.leases) > 0: // its lanes show it
		c.probe.reached = false
		if !c.standby {
			c.status.Unreached = nil
		}
	case now.Before(c.probe.pausedTo) && c.view.reachedByAnother(c.opts.Replica.ID, now):
		c.reached(errLanesFail) // whatever a probe found while no other replica had the broker
	case c.probe.cancel == nil && !now.Before(c.probe.at) && len(c.view.present(now)) > 1:
		ctx, c.probe.cancel = context.WithCancel(ctx)
		c.wait.Go(func() {
			err := c.opts.Lanes.ProbeBroker(ctx)
			c.events <- func(context.Context) { c.probed(err) }
		})
	}
}

// probed notes how a probe ended.
func (c *Coordinator) probed(err error) {
	c.probe.cancel()
	c.probe.cancel, c.probe.at = nil, time.Now().Add(c.view.ttl)
	if len(c.leases) == 0 && c.leaving == nil {
		c.reached(err)
	}
}

// reached notes whether this replica reaches the broker, nil, or why not.
func (c *Coordinator) reached(err error) {
	if c.probe.reached != (err == nil) {
		c.renewAt = time.Time{} // the others are to know immediately
	}
	c.probe.reached = err == nil
	if err != nil && c.status.Unreached == nil {
		c.status.UnreachedSince = time.Now()
		c.opts.Log.Warn().Str("component", "leases").AnErr("problem", err).Msg("broker unreachable from this replica, on standby")
	}
	c.status.Unreached = err
}
