package limit

import (
	"sync"
	"sync/atomic"
)

// CatchUp is the credit that devices get on plain topics after an outage. On plain topics the
// limiter knows only the time of arrival, and a backlog arrives together: ten minutes of a
// well-behaved device's messages within a second. So until the lane has caught up, each device may
// also send what it could have sent during the outage. In the long run that does not exceed its
// rate. Attested topics carry the broker's time and need no credit.
//
// MQTT does not signal the end of a backlog. The lane has caught up when every message is
// acknowledged and the broker has sent none for idleFor. A lane that is never idle has caught up
// when messages arrive no faster than the average rate at which they were sent since the outage
// began. If neither is detected, the credit decays slowly enough for a backlog that is delivered at
// 1¼ times the rate at which it was sent.
type CatchUp struct {
	credits *laneCredits // shared by the lanes
	length  int64        // of the outage, ns; 0: caught up
	since   int64        // when the outage ended, ns since the epoch
	arrived int64        // messages since then

	idleSince int64 // when all messages were last acknowledged
	spanStart int64 // when the current measurement began
	spanCount int64 // messages in it
	stalled   bool  // JetStream delayed some of them
}

const (
	// minStall is the minimum wait for JetStream that counts as an outage.
	minStall = int64(1e9)
	// slowAnswer is the wait for JetStream from which the rate of arrival is meaningless.
	slowAnswer = int64(100e6)
	// UnknownOutage is assumed if the broker kept the session but the length of the outage is
	// unknown, because the bridge was restarted without a journal on disk. Too much credit lets a
	// fast device through once; too little rejects legitimate messages.
	UnknownOutage = int64(3600e9)
	// idleFor is the maximum time between a PUBACK and the broker's next message, including the
	// retransmission of a TCP segment.
	idleFor = int64(5e9)
	// spanLength is the length of one measurement of the rate of arrival.
	spanLength = int64(10e9)
	// creditDecay is the divisor of the time since the outage by which the credit decreases.
	creditDecay = 4
)

// NewCatchUp returns the state of a lane that has caught up.
func NewCatchUp(tenants *Budgets) CatchUp { return CatchUp{credits: &tenants.credits} }

// InProgress reports whether there was credit at the last message or tick.
func (c *CatchUp) InProgress() bool { return c.length > 0 }

// Settled records an answer of JetStream: the broker may be idle from now on.
func (c *CatchUp) Settled(now int64) { c.idleSince = now }

// Grant grants credit for an outage of that length that ended now. Credit left when it began is
// added.
func (c *CatchUp) Grant(now, outage int64) {
	if outage <= 0 {
		return
	}
	c.begin(now, outage+c.Credit(now-outage))
}

func (c *CatchUp) begin(now, length int64) {
	*c = CatchUp{credits: c.credits, length: length, since: now, idleSince: now, spanStart: now}
	c.credits.set(c, length)
}

// Waited records how long the oldest message waited for its answer. During that time the broker's
// window was closed and its queue grew.
func (c *CatchUp) Waited(now, age int64) {
	c.stalled = c.stalled || age >= slowAnswer
	if age >= minStall && age > c.Credit(now) {
		c.begin(now, age)
	}
}

// Arrives counts a message. waiting means that others are not acknowledged yet.
func (c *CatchUp) Arrives(now int64, waiting bool) {
	if c.Tick(now, waiting); c.length == 0 {
		return
	}
	if now-c.spanStart >= spanLength {
		c.spanStart, c.spanCount, c.stalled = now, 0, false
		c.credits.set(c, c.Credit(now))
	}
	c.arrived++
	c.spanCount++
}

// caughtUp reports whether the broker has delivered its backlog.
func (c *CatchUp) caughtUp(now int64, waiting bool) bool {
	if !waiting && now-c.idleSince >= idleFor {
		return true
	}
	if span := now - c.spanStart; span >= spanLength && !c.stalled {
		// In messages × ns, which may overflow an int64.
		average := float64(c.arrived) * float64(span)
		if float64(c.spanCount)*float64(c.length+now-c.since) <= average {
			return true
		}
	}
	return c.Credit(now) == 0
}

// Active reports whether there is credit that does not end with the next message or tick.
func (c *CatchUp) Active(now int64, waiting bool) bool {
	return c.length > 0 && !c.caughtUp(now, waiting)
}

// Tick ends the credit if the lane has caught up.
func (c *CatchUp) Tick(now int64, waiting bool) {
	if c.length > 0 && c.caughtUp(now, waiting) {
		c.length = 0
		c.credits.set(c, 0)
	}
}

// Credit returns how far back a budget reaches at that time, in ns.
func (c *CatchUp) Credit(now int64) int64 {
	return max(c.length-max(now-c.since, 0)/creditDecay, 0)
}

// laneCredits contains the credits of all lanes. Lanes share the tenants' budgets: messages that
// one lane delivers in time must not use up the budget of those that another still has to deliver.
// Safe for concurrent use.
type laneCredits struct {
	longest atomic.Int64 // ns; 0: no lane is catching up

	mu     sync.Mutex
	byLane map[*CatchUp]int64
}

func (a *laneCredits) set(c *CatchUp, credit int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if credit > 0 {
		a.byLane[c] = credit
	} else {
		delete(a.byLane, c)
	}
	longest := int64(0)
	for _, credit := range a.byLane {
		longest = max(longest, credit)
	}
	a.longest.Store(longest)
}
