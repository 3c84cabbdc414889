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

// queue is EMQX's queue for one lane, over time.
type queue struct {
	session emqx.Session
	lengths []queueLength // at most queueTrend old
	// dropped were lost since the bridge watches, the last ones at droppedAt.
	dropped   uint64
	droppedAt time.Time
}

type queueLength struct {
	at       time.Time
	messages int64
}

// observe takes a reading.
func (q *queue) observe(now time.Time, s emqx.Session) {
	// The first reading does not reveal when the drops were; a new session counts
	// from 0 again.
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

// fill is the used share of the queue, 0 where it has no limit.
func (q *queue) fill() float64 {
	if q.session.QueueLimit <= 0 {
		return 0
	}
	return float64(q.session.QueueLength) / float64(q.session.QueueLimit)
}

// left is the time until the queue is full at its present growth; false where it does
// not grow.
func (q *queue) left() (time.Duration, bool) {
	first, last := q.lengths[0], q.lengths[len(q.lengths)-1]
	grown, took := last.messages-first.messages, last.at.Sub(first.at)
	if grown <= 0 || took <= 0 {
		return 0, false
	}
	room := max(0, int64(q.session.QueueLimit)-last.messages)
	return time.Duration(float64(room) / float64(grown) * float64(took)), true
}
