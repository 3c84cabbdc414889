package lease

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"
)

// probe is the state of a replica's broker probes while it leases nothing, and of the back-off
// after failed assignments.
type probe struct {
	cancel  context.CancelFunc // of the probe in progress; nil: none
	at      time.Time          // when the next probe begins
	reached bool               // the last probe reached the broker
	// served means that a lane has been connected since this replica last went on standby or came
	// back. If not, the assignment has failed when it goes on standby.
	served   bool
	failed   int       // consecutive failed assignments
	pausedTo time.Time // no probe before then while another replica reaches the broker
}

// firstPause is the back-off after two consecutive failed assignments. It doubles with each further
// one, up to maxPause.
const (
	firstPause = 2 * time.Minute
	maxPause   = 30 * time.Minute
)

// pause returns the back-off after that many consecutive failed assignments. A probe does not reveal
// why the lanes fail, and each assignment delays the messages of their devices.
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

// updateStandby decides whether this replica is on standby (see Replica.Standby). If all replicas
// would be on standby, none is, but after an outage of the bucket it first waits for the others to
// return.
func (c *Coordinator) updateStandby(member bool, now time.Time) {
	self := c.view.replicas[c.opts.Replica.ID]
	if self.Standby != c.standby {
		return // this replica's last announcement has not been observed yet
	}
	believed := self.trusted(now, c.view.ttl) || self.Connected && c.status.Acquired == 0 // never had a lease to lose
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
	c.renewAt = time.Time{} // announce it immediately
}

// probeIfDue probes the broker if this replica has no lanes and there are other replicas: its share
// depends on the result.
func (c *Coordinator) probeIfDue(ctx context.Context, now time.Time) {
	switch {
	case len(c.leases) > 0: // the lanes show whether the broker is reachable
		c.probe.reached = false
		if !c.standby {
			c.status.Unreached = nil
		}
	case now.Before(c.probe.pausedTo) && c.view.reachedByAnother(c.opts.Replica.ID, now):
		c.reached(errLanesFail) // overrides a probe from when no other replica reached the broker
	case c.probe.cancel == nil && !now.Before(c.probe.at) && len(c.view.present(now)) > 1:
		ctx, c.probe.cancel = context.WithCancel(ctx)
		c.wait.Go(func() {
			err := c.opts.Lanes.ProbeBroker(ctx)
			c.events <- func(context.Context) { c.probed(err) }
		})
	}
}

// probed records the result of a probe.
func (c *Coordinator) probed(err error) {
	c.probe.cancel()
	c.probe.cancel, c.probe.at = nil, time.Now().Add(c.view.ttl)
	if len(c.leases) == 0 && c.leaving == nil {
		c.reached(err)
	}
}

// reached records whether this replica reaches the broker; a nil error means yes.
func (c *Coordinator) reached(err error) {
	if c.probe.reached != (err == nil) {
		c.renewAt = time.Time{} // announce it immediately
	}
	c.probe.reached = err == nil
	if err != nil && c.status.Unreached == nil {
		c.status.UnreachedSince = time.Now()
		c.problem(zerolog.WarnLevel, err).AnErr("problem", err).Msg("broker unreachable from this replica, on standby")
	}
	c.status.Unreached = err
}
