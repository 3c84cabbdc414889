package limit

import "time"

const (
	// maxAhead is how far the limiter's clock may be ahead of the bridge's. If a broker node's
	// clock is further ahead, its time is not used: the budget spent at that time would be missing
	// until then.
	maxAhead = time.Second
	// farAhead is the smallest step that counts as a change of a clock.
	farAhead = 5 * time.Minute
)

// Clock returns the time of a message for limits, in ns. It is the time at which the broker
// received the message (millis), because a backlog arrives together after an outage but was sent
// evenly. If that is too far ahead of now (ns), the result is now.
func Clock(millis, now int64) int64 {
	if millis > (now+int64(maxAhead))/1e6 {
		return now
	}
	return millis * 1e6
}
