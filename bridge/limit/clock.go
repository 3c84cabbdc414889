package limit

import "time"

const (
	// maxAhead is how far the limiter's clock may be ahead of the bridge's. A
	// broker node whose clock is further ahead is not believed: what its messages
	// spent would be missing until then.
	maxAhead = time.Second
	// farAhead is the least step of a clock that is taken for its being set.
	farAhead = 5 * time.Minute
)

// Clock is the time that limits go by for a message that the broker received
// at that time, in ms, and the bridge at now, in ns: after an outage the backlog
// comes all at once but was sent evenly. A clock too far ahead is not believed.
func Clock(millis, now int64) int64 {
	if millis > (now+int64(maxAhead))/1e6 {
		return now
	}
	return millis * 1e6
}
