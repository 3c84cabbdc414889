package limit

import (
	"sync"
	"sync/atomic"
)

// CatchUp is the credit that devices get on plain topics after an outage. There the limiter
// knows the time of arrival only, and a backlog arrives together: ten minutes of an honest
// device's messages in one second. So each device may also send what it could have sent
// during the outage, until the lane has caught up; in the long run that is no more than its
// rate. Attested topics carry the broker's time and need no credit.
//
// MQTT does not indicate where a backlog ends. The lane has caught up when every message is
// acknowledged and the broker has sent none for idleFor. A lane that is never idle has
// caught up when messages arrive no faster than they were sent on average since the outage
// began: while a backlog lasts they arrive faster. If neither shows, the credit decreases,
// slowly enough for a backlog that is delivered at 1¼ times the rate at which it was sent.
type CatchUp struct {
	arrears *arrears // shared by the lanes; nil: none
	length  int64    // of the outage, ns; 0: the lane has caught up
	since   int64    // when it ended, ns since the epoch
	arrived int64    // messages since then

	idle    int64 // when all messages had been acknowledged
	span    int64 // when the present span of measurement began
	spanned int64 // messages in it
	stalled bool  // JetStream delayed some of them
}

const (
	// minStall is how long a message must have waited for JetStream to count as an
	// outage.
	minStall = int64(1e9)
	// slowAnswer is how long a message must have waited for JetStream to make the rate
	// of arrival meaningless.
	slowAnswer = int64(100e6)
	// UnknownOutage is assumed if the broker kept a session and its age is not known:
	// the bridge was restarted and has no journal on disk. Too much credit lets a fast
	// device through once, too little rejects what honest ones sent while no lane was
	// connected.
	UnknownOutage = int64(3600e9)
	// idleFor is the maximum time that a broker takes from a PUBACK to the next
	// message, a lost segment of TCP included.
	idleFor = int64(5e9)
	// spanLength is the length of one measurement of the rate of arrival.
	spanLength = int64(10e9)
	// melting is the divisor of the time since the outage by which the credit
	// decreases.
	melting = 4
)

// NewCatchUp returns the state of a lane that has caught up.
func NewCatchUp(tenants *Budgets) CatchUp { return CatchUp{arrears: &tenants.arrears} }

// InProgress reports whether there was credit at the last message or tick.
func (c *CatchUp) InProgress() bool { return c.length > 0 }

// Settled records an answer of JetStream: from now on the broker may be idle.
func (c *CatchUp) Settled(now int64) { c.idle = now }

// Grant gives credit for an outage of that length that ended now. The credit that was left
// when it began is added.
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

// Waited records how long the oldest message waited for its answer: during that time the
// broker's window was closed and its queue grew.
func (c *CatchUp) Waited(now, age int64) {
	c.stalled = c.stalled || age >= slowAnswer
	if age >= minStall && age > c.Credit(now) {
		c.begin(now, age)
	}
}

// Arrives counts a message. waiting means that others are not acknowledged yet.
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

// caughtUp reports whether the broker's backlog is delivered.
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

// Active reports whether there is credit that does not end with the next message or tick.
func (c *CatchUp) Active(now int64, waiting bool) bool {
	return c.length > 0 && !c.caughtUp(now, waiting)
}

// Tick ends the credit if the lane has caught up.
func (c *CatchUp) Tick(now int64, waiting bool) {
	if c.length > 0 && c.caughtUp(now, waiting) {
		c.length = 0
		c.arrears.set(c, 0)
	}
}

// Credit returns how far back a budget reaches at that time, in ns.
func (c *CatchUp) Credit(now int64) int64 {
	if c.length == 0 {
		return 0
	}
	return max(c.length-max(now-c.since, 0)/melting, 0)
}

// arrears has the credits of all lanes. They share the tenants' budgets: messages that one
// lane delivers in time must not use up the budget for those that another still has to
// deliver. Safe for concurrent use; nil has none.
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
