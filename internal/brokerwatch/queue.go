package brokerwatch

import (
	"time"

	"mqtt-nats-bridge/internal/emqx"
)

const (
	// queueTrend is the time over which a queue's growth is measured.
	queueTrend = 2 * time.Minute
	// dropsShown is how long a warning about dropped messages stays.
	dropsShown = 15 * time.Minute
)

// queue is the recent history of EMQX's queue for one lane.
type queue struct {
	session emqx.Session
	lengths []queueLength // at most queueTrend old
	// dropped is the number of messages dropped since the bridge began to watch; the last drop was
	// noticed at droppedAt.
	dropped   uint64
	droppedAt time.Time
}

type queueLength struct {
	at       time.Time
	messages int64
}

// observe records a reading.
func (q *queue) observe(now time.Time, s emqx.Session) {
	// The time of the drops in the first reading is unknown. A new session counts from 0 again.
	if len(q.lengths) > 0 && s.QueueDropped > q.session.QueueDropped {
		q.dropped += s.QueueDropped - q.session.QueueDropped
		q.droppedAt = now
	}
	q.session = s
	q.lengths = append(q.lengths, queueLength{now, s.QueueLength})
	for len(q.lengths) > 2 && now.Sub(q.lengths[0].at) > queueTrend {
		q.lengths = q.lengths[1:]
	}
}

// fill returns the used share of the queue; 0 without a limit.
func (q *queue) fill() float64 {
	if q.session.QueueLimit <= 0 {
		return 0
	}
	return float64(q.session.QueueLength) / float64(q.session.QueueLimit)
}

// left returns the time until the queue is full at its current growth rate; false if it does not grow.
func (q *queue) left() (time.Duration, bool) {
	first, last := q.lengths[0], q.lengths[len(q.lengths)-1]
	grown, took := last.messages-first.messages, last.at.Sub(first.at)
	if grown <= 0 || took <= 0 {
		return 0, false
	}
	free := max(0, int64(q.session.QueueLimit)-last.messages)
	return time.Duration(float64(free) / float64(grown) * float64(took)), true
}
