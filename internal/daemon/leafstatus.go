package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mqtt-nats-bridge/jetstream/conn"
)

// LeafStatus is the leaf node of nats.mode leaf.
type LeafStatus struct {
	Domain string     `json:"domain"`
	Link   LinkStatus `json:"link"`
	// HubProblem is why the hub does not say how far it has stored, or that it
	// does not source; the backlog is then as it was last known.
	HubProblem string `json:"hub_problem,omitempty"`
	// Messages and Bytes are not known to be stored at the hub.
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Oldest   time.Time `json:"oldest,omitzero"`
	// UsedBytes counts also what the hub has and which is not removed yet.
	UsedBytes uint64             `json:"used_bytes"`
	MaxBytes  uint64             `json:"max_bytes"`
	Full      bool               `json:"full"` // nothing is taken
	Streams   []LeafStreamStatus `json:"streams"`
}

// LinkStatus is the link to the hub.
type LinkStatus struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Problem   string    `json:"problem,omitempty"`
}

// LeafStreamStatus is one local stream.
type LeafStreamStatus struct {
	Name         string `json:"name"`
	Messages     uint64 `json:"messages"`
	Bytes        uint64 `json:"bytes"`
	LastSequence uint64 `json:"last_sequence"`
	// HubSequence is up to where the hub has stored; 0: not known, or nothing.
	HubSequence uint64 `json:"hub_sequence"`
}

// status is nil in client mode.
func (u *leafUnit) status() *LeafStatus {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	v := u.view
	s := &LeafStatus{
		Domain:     u.config.Domain,
		Link:       LinkStatus{Connected: v.link, Since: v.linkSince.UTC(), Problem: v.linkProblem},
		HubProblem: v.hubProblem, UsedBytes: v.used, MaxBytes: uint64(u.config.MaxBytes),
		Full: !u.health.takes(), Streams: make([]LeafStreamStatus, 0, len(v.backlog)),
	}
	for _, b := range v.backlog {
		s.Messages += b.Messages
		s.Bytes += b.Bytes
		if s.Oldest.IsZero() || !b.Oldest.IsZero() && b.Oldest.Before(s.Oldest) {
			s.Oldest = b.Oldest
		}
		s.Streams = append(s.Streams, LeafStreamStatus{
			Name: b.Stream, Messages: b.Messages, Bytes: b.Bytes, LastSequence: b.Last, HubSequence: b.Hub,
		})
	}
	return s
}

// problems lists what keeps the leaf node from being ready. An unreachable hub is
// none: to store during that time is what it is for. No room is one, and so is what does
// not pass when the link is back.
func (u *leafUnit) problems() []Problem {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.health.problems()
	if v := u.view; u.health.streams.Err() == nil && v.unsourced != "" && time.Since(v.unsourcedSince) >= streamsAgain {
		all = append(all, Problem{Component: "streams", Problem: v.unsourced, Advice: unsourcedAdvice, Since: v.unsourcedSince})
	}
	return all
}

const unsourcedAdvice = "run mqtt-nats-bridge streams apply: it makes the stream, or gives it its source"

// natsProblems are those of the NATS side. In leaf mode they are the leaf node's.
func (b *Bridge) natsProblems() []Problem {
	if b.leaf == nil {
		return b.control.problems()
	}
	return b.leaf.problems()
}

func leafMetrics() []wholeMetric {
	gauge := func(name, help string, value func(*LeafStatus) float64) wholeMetric {
		return wholeMetric{describe("leaf_"+name, help), prometheus.GaugeValue,
			func(b *Bridge) float64 { return value(b.leaf.status()) }}
	}
	return []wholeMetric{
		gauge("link_up", "1 while the leaf node is linked to the hub.",
			func(s *LeafStatus) float64 { return boolToFloat(s.Link.Connected) }),
		gauge("backlog_messages", "Messages in the local store that the hub is not known to have stored.",
			func(s *LeafStatus) float64 { return float64(s.Messages) }),
		gauge("backlog_bytes", "Bytes in the local store that the hub is not known to have stored.",
			func(s *LeafStatus) float64 { return float64(s.Bytes) }),
		gauge("oldest_seconds", "How long the oldest message has waited for the hub.",
			func(s *LeafStatus) float64 {
				if s.Oldest.IsZero() {
					return 0
				}
				return max(0, time.Since(s.Oldest).Seconds())
			}),
		gauge("store_bytes", "Bytes in the local store.",
			func(s *LeafStatus) float64 { return float64(s.UsedBytes) }),
		gauge("store_limit_bytes", "nats.leaf.max_bytes.",
			func(s *LeafStatus) float64 { return float64(s.MaxBytes) }),
	}
}

// laneLink is how lanes reach what they store in.
func (b *Bridge) laneLink(shared *laneShared) {
	if b.leaf == nil {
		return
	}
	shared.nats, shared.local = conn.Options{}, b.leaf.node.InProcess()
	shared.unheld = nil                          // every subject is held here
	shared.fenced = func() bool { return false } // and its streams are there before the lanes
}
