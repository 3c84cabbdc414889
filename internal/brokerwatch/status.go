package brokerwatch

import "time"

// Status is the state of the lanes' sessions as reported by EMQX's API.
type Status struct {
	API      string    `json:"api"`
	Problem  string    `json:"problem,omitempty"` // of the last poll
	PolledAt time.Time `json:"polled_at,omitzero"`
	// NoSubscribers and QueueFull count messages that EMQX has dropped for any client since it
	// started.
	NoSubscribers uint64        `json:"dropped_no_subscribers"`
	QueueFull     uint64        `json:"dropped_queue_full"`
	Queues        []QueueStatus `json:"queues"`
}

// QueueStatus is the state of one lane's session at the broker.
type QueueStatus struct {
	ClientID  string `json:"client_id"`
	Connected bool   `json:"connected"`
	Length    int64  `json:"length"`
	Limit     int64  `json:"limit"` // 0: no limit
	Dropped   uint64 `json:"dropped"`
	InFlight  int64  `json:"in_flight"`
}

// Status returns nil if the API is not configured.
func (w *Watch) Status() *Status {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &Status{
		API: w.api, PolledAt: w.polled.UTC(), Queues: []QueueStatus{},
		NoSubscribers: w.counters.NoSubscribers, QueueFull: w.counters.QueueFull,
	}
	if err := w.polls.Err(); err != nil {
		s.Problem = err.Error()
	}
	for _, id := range w.lanes {
		if q := w.queues[id]; q != nil {
			s.Queues = append(s.Queues, QueueStatus{
				ClientID: id, Connected: q.session.Connected, Length: q.session.QueueLength, Limit: int64(q.session.QueueLimit),
				Dropped: q.session.QueueDropped, InFlight: q.session.InFlight,
			})
		}
	}
	return s
}
