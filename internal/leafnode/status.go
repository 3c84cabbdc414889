package leafnode

import (
	"time"

	"mqtt-nats-bridge/internal/health"
)

// Status is the state of the leaf node of nats.mode leaf.
type Status struct {
	Domain string     `json:"domain"`
	Link   LinkStatus `json:"link"`
	// HubProblem is the reason why the hub's positions are unknown, or that the hub does not source.
	// The backlog is then the last known one.
	HubProblem string `json:"hub_problem,omitempty"`
	// Messages and Bytes count messages that the hub has not confirmed as stored.
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Oldest   time.Time `json:"oldest,omitzero"`
	// UsedBytes also includes messages that the hub has stored and that are not removed yet.
	UsedBytes uint64         `json:"used_bytes"`
	MaxBytes  uint64         `json:"max_bytes"`
	Full      bool           `json:"full"` // no message is accepted
	Streams   []StreamStatus `json:"streams"`
}

// LinkStatus is the state of the link to the hub.
type LinkStatus struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Problem   string    `json:"problem,omitempty"`
}

// StreamStatus is the state of one local stream.
type StreamStatus struct {
	Name         string `json:"name"`
	Messages     uint64 `json:"messages"`
	Bytes        uint64 `json:"bytes"`
	LastSequence uint64 `json:"last_sequence"`
	// HubSequence is the last sequence that the hub has stored; 0: unknown or none.
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
		Domain: n.config.Domain, Link: v.link, HubProblem: v.hubProblem, UsedBytes: v.used, MaxBytes: uint64(n.config.MaxBytes),
		Full: !n.health.accepting(), Streams: make([]StreamStatus, 0, len(v.backlog)),
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

// Problems returns the reasons why the leaf node is not ready. An unreachable hub is not one, because
// the leaf node stores messages during that time. A full store is one, and so is an error that a
// restored link does not fix.
func (n *Node) Problems() []health.Problem {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.health.problems()
	if v := n.view; n.health.streams.Err() == nil && v.unsourced != "" && time.Since(v.unsourcedSince) >= unsourcedFor {
		all = append(all, health.Problem{Component: "streams", Problem: v.unsourced, Advice: unsourcedAdvice, Since: v.unsourcedSince})
	}
	return all
}

const unsourcedAdvice = "run mqtt-nats-bridge streams apply, which creates the stream or adds its source"
