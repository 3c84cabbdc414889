package daemon

import (
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/neterror"
)

// unleasedAfter is the time for which a partition may be unleased before that is a problem. A
// partition is unleased for a moment whenever it moves.
const unleasedAfter = 5 * time.Second

// problems lists the problems that keep partitions from being leased. Each replica reports the
// problems of its own lanes.
func (r *replicas) problems(natsDown bool) []Problem {
	if !r.bridge.dynamic.isAdmitted() {
		return nil // leases are not needed yet; the reason is reported elsewhere
	}
	s := r.leases.Status()
	problem := func(text, advice string, since time.Time) Problem {
		return Problem{Component: "leases", Problem: text, Advice: advice, Since: since}
	}
	switch {
	case s.Err != nil && natsDown:
		return nil // the reason is reported elsewhere
	case s.Err != nil:
		return []Problem{problem("the leases cannot be reached: "+s.Err.Error(), advice.For(s.Err), s.Since)}
	case !s.Settled:
		return []Problem{problem("the partitions have not been assigned yet", "", r.bridge.started)}
	}
	var all []Problem
	if len(s.Elsewhere) > 0 {
		err := &lease.OtherBrokerError{Replica: s.Elsewhere[0], Broker: s.Replica.Broker}
		since := r.bridge.started
		if err.Replica.Started.After(since) {
			since = err.Replica.Started
		}
		all = append(all, problem(err.Error(), advice.For(err), since))
	}
	if s.Unreached != nil {
		p := problem("this replica cannot reach the broker and leaves its partitions to the other replicas: "+neterror.WithoutLocalAddress(s.Unreached.Error()),
			mqttaccount.Advice(s.Unreached), s.UnreachedSince)
		p.Component = "mqtt"
		all = append(all, p)
	}
	var idle Problem
	for i, p := range s.Partitions {
		if p.Owner != "" || time.Since(p.Since) < unleasedAfter {
			continue
		}
		if idle.Since.IsZero() || p.Since.Before(idle.Since) {
			idle.Since = p.Since
		}
		idle.Lanes = append(idle.Lanes, r.bridge.lanes[i].plan.ClientID)
	}
	if n := len(idle.Lanes); n > 0 {
		idle.Component = "leases"
		idle.Problem = fmt.Sprintf("%d partitions are leased by no replica: the messages of their devices wait at the broker", n)
		idle.Advice = "wait until the lease of a dead replica expires; if the problem persists, see the replicas' logs"
		all = append(all, idle)
	}
	return all
}
