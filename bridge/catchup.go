package bridge

// catchUp is the credit that devices get on plain topics after an outage. There
// the limiter can go by arrival only, and a backlog arrives all at once: ten
// minutes of an honest device's messages in one second. So for a while each
// device may also send what it could have sent meanwhile; in the long run that
// is no more than its rate. Attested topics carry the broker's time and need
// none of it.
type catchUp struct {
	length int64 // of the outage, ns
	until  int64 // ns since the epoch
}

const (
	// minStall is how long a message must have waited for JetStream before
	// the lane counts as having been held up.
	minStall = int64(1e9)
	// minCatchUp and maxCatchUp bound the time that a backlog is given to
	// arrive in.
	minCatchUp = int64(5e9)
	maxCatchUp = int64(300e9)
	// unknownOutage is assumed where the broker kept a session and nothing
	// says since when: the bridge was restarted and has no journal on disk.
	// Too much credit lets a fast device through for once, too little
	// rejects what honest ones sent while nobody listened.
	unknownOutage = int64(3600e9)
)

// grant gives credit for an outage of that length that ended now. The backlog is
// expected to arrive within the time in which it came to be, or 5 min.
func (c *catchUp) grant(now, outage int64) {
	if outage <= 0 {
		return
	}
	if now < c.until {
		outage = max(outage, c.length)
	}
	c.length, c.until = outage, now+min(max(outage, minCatchUp), maxCatchUp)
}

// waited is told how long the oldest message waited for its answer: while it
// did, the broker's window was closed and its queue grew.
func (c *catchUp) waited(now, age int64) {
	if age >= minStall {
		c.grant(now, age)
	}
}

func (c *catchUp) credit(now int64) int64 {
	if now < c.until {
		return c.length
	}
	return 0
}
