package limit

import (
	"sync"
	"sync/atomic"
)

// CatchUp is the credit that devices get on plain topics after an outage. There
// the limiter can go by arrival only, and a backlog arrives all at once: ten
// minutes of an honest device's messages in one second. So each device may also
// send what it could have sent during the outage, until the lane has caught up; in
// the long run that is no more than its rate. Attested topics carry the broker's
// time and need none of it.
//
// MQTT does not say where a backlog ends. The lane has caught up when the broker,
// with every message acknowledged, has sent none for idleFor: it had none. Or, on a
// lane that is never idle, when messages come no faster than they were sent on
// average since the outage began: while a backlog lasts they come faster. Where
// neither shows, the credit melts, slowly enough for a backlog that is delivered at
// 1¼ times the rate at which it came to be.
type CatchUp struct {
	arrears *arrears // what lanes share; nil: nothing
	length  int64    // of the outage, ns; 0: the lane has caught up
	since   int64    // when it ended, ns since the epoch
	arrived int64    // messages since then

	idle    int64 // when all there was had been acknowledged
	span    int64 // when the present span of measurement began
	spanned int64 // messages in it
	stalled bool  // JetStream held some of them up
}

const (
	// minStall is how long a message must have waited for JetStream before
	// the lane counts as having been held up.
	minStall = int64(1e9)
	// slowAnswer is how long a message must have waited for the rate of
	// arrival to say nothing about the broker.
	slowAnswer = int64(100e6)
	// unknownOutage is assumed where the broker kept a session and nothing
	// says since when: the bridge was restarted and has no journal on disk.
	// Too much credit lets a fast device through for once, too little
	// rejects what honest ones sent while nobody listened.
	UnknownOutage = int64(3600e9)
	// idleFor is how long a broker takes at most from a PUBACK to the next
	// message, a lost segment of TCP included.
	idleFor = int64(5e9)
	// spanLength is how long the rate of arrival is measured.
	spanLength = int64(10e9)
	// melting is the part of the time since the outage that is taken off the
	// credit: 1/melting.
	melting = 4
)

// NewCatchUp returns that of a lane which has caught up.
func NewCatchUp(tenants *Budgets) CatchUp { return CatchUp{arrears: &tenants.arrears} }

// InProgress reports whether there was credit at the last message or tick.
func (c *CatchUp) InProgress() bool { return c.length > 0 }

// Settled notes that JetStream has answered: from now on the broker may be idle.
func (c *CatchUp) Settled(now int64) { c.idle = now }

// Grant gives credit for an outage of that length that ended now. What was still
// contains when it began is owed on top.
func (c *CatchUp) Grant(now, outage int64) {
	if outage <= 0 {
		return
	}
	if left := c.Credit(now - outage); left > 0 {
		outage += left
	}
	c.begin(now, outage)
}

func (c *CatchUp) begin(now, length int64) {
	*c = CatchUp{arrears: c.arrears, length: length, since: now, idle: now, span: now}
	c.arrears.set(c, length)
}

// Waited is told how long the oldest message waited for its answer: while it
// did, the broker's window was closed and its queue grew.
func (c *CatchUp) Waited(now, age int64) {
	c.stalled = c.stalled || age >= slowAnswer
	if age >= minStall && age > c.Credit(now) {
		c.begin(now, age)
	}
}

// Arrives counts a message. waiting: others are not acknowledged yet.
func (c *CatchUp) Arrives(now int64, waiting bool) {
	if c.length == 0 {
		return
	}
	if c.Tick(now, waiting); c.length == 0 {
		return
	}
	if now-c.span >= spanLength {
		c.span, c.spanned, c.stalled = now, 0, false
		c.arrears.set(c, c.Credit(now))
	}
	c.arrived++
	c.spanned++
}

// caughtUp reports whether the broker has nothing more from before now.
func (c *CatchUp) caughtUp(now int64, waiting bool) bool {
	if !waiting && now-c.idle >= idleFor {
		return true
	}
	if span := now - c.span; span >= spanLength && !c.stalled {
		// In messages × ns, which go beyond an int64.
		average := float64(c.arrived) * float64(span)
		if float64(c.spanned)*float64(c.length+now-c.since) <= average {
			return true
		}
	}
	return c.Credit(now) == 0
}

// Active reports whether there is credit, which ends with the next message or tick.
func (c *CatchUp) Active(now int64, waiting bool) bool {
	return c.length > 0 && !c.caughtUp(now, waiting)
}

// Tick ends the credit where the lane has caught up.
func (c *CatchUp) Tick(now int64, waiting bool) {
	if c.length > 0 && c.caughtUp(now, waiting) {
		c.length = 0
		c.arrears.set(c, 0)
	}
}

// Credit is how far back a budget reaches at that time, in ns.
func (c *CatchUp) Credit(now int64) int64 {
	if c.length == 0 {
		return 0
	}
	return max(c.length-max(now-c.since, 0)/melting, 0)
}

// arrears are the credits of all lanes. They share the tenants' budgets: what one
// lane delivers on time must not make up for what another still has to deliver.
// Safe for concurrent use; nil has none.
type arrears struct {
	longest atomic.Int64 // ns; 0: no lane catches up

	mu sync.Mutex
	of map[*CatchUp]int64
}

func (a *arrears) set(c *CatchUp, credit int64) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[*CatchUp]int64{}
	}
	if credit > 0 {
		a.of[c] = credit
	} else {
		delete(a.of, c)
	}
	longest := int64(0)
	for _, credit := range a.of {
		longest = max(longest, credit)
	}
	a.longest.Store(longest)
}
