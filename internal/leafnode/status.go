package leafnode

import (
	"time"

	"mqtt-nats-bridge/internal/health"
)

// Status is the leaf node of nats.mode leaf.
type Status struct {
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
	UsedBytes uint64         `json:"used_bytes"`
	MaxBytes  uint64         `json:"max_bytes"`
	Full      bool           `json:"full"` // nothing is taken
	Streams   []StreamStatus `json:"streams"`
}

// LinkStatus is the link to the hub.
type LinkStatus struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Problem   string    `json:"problem,omitempty"`
}

// StreamStatus is one local stream.
type StreamStatus struct {
	Name         string `json:"name"`
	Messages     uint64 `json:"messages"`
	Bytes        uint64 `json:"bytes"`
	LastSequence uint64 `json:"last_sequence"`
	// HubSequence is up to where the hub has stored; 0: not known, or nothing.
	HubSequence uint64 `json:"hub_sequence"`
}

// Status returns nil in client mode.
func (n *Node) Status() *Status {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.view
	s := &Status{
		Domain:     n.config.Domain,
		Link:       LinkStatus{Connected: v.link, Since: v.linkSince.UTC(), Problem: v.linkProblem},
		HubProblem: v.hubProblem, UsedBytes: v.used, MaxBytes: uint64(n.config.MaxBytes),
		Full: !n.health.takes(), Streams: make([]StreamStatus, 0, len(v.backlog)),
	}
	for _, b := range v.backlog {
		s.Messages += b.Messages
		s.Bytes += b.Bytes
		if s.Oldest.IsZero() || !b.Oldest.IsZero() && b.Oldest.Before(s.Oldest) {
			s.Oldest = b.Oldest
		}
		s.Streams = append(s.Streams, StreamStatus{
			Name: b.Stream, Messages: b.Messages, Bytes: b.Bytes, LastSequence: b.Last, HubSequence: b.Hub,
		})
	}
	return s
}

// Problems lists what keeps the leaf node from being ready. An unreachable hub is
// none: to store during that time is what it is for. No room is one, and so is what does
// not pass when the link is back.
func (n *Node) Problems() []health.Problem {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.health.problems()
	if v := n.view; n.health.streams.Err() == nil && v.unsourced != "" && time.Since(v.unsourcedSince) >= unsourcedFor {
		all = append(all, health.Problem{Component: "streams", Problem: v.unsourced, Advice: unsourcedAdvice, Since: v.unsourcedSince})
	}
	return all
}

const unsourcedAdvice = "run mqtt-nats-bridge streams apply: it creates the stream, or gives it its source"
