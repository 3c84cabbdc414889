package natstest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"mqtt-nats-bridge/bridge"
)

// Outcome is the result that a settler received for one message.
type Outcome struct {
	Token     uint64
	Duplicate bool
	Refused   error
	Message   bridge.Message // a copy of the rejected message
}

// Outcomes is a settler that passes results to the test. It fails the test if a message is settled
// twice.
type Outcomes struct {
	t       *testing.T
	Results chan Outcome
	Done    atomic.Int64 // calls of SettleDone

	mu      sync.Mutex
	settled map[uint64]bool
	Before  func() // runs at the beginning of each Settle
}

// NewOutcomes returns Outcomes with a buffer for 2^18 results.
func NewOutcomes(t *testing.T) *Outcomes {
	return &Outcomes{t: t, Results: make(chan Outcome, 1<<18), settled: map[uint64]bool{}}
}

// Settle implements [bridge.Settler].
func (o *Outcomes) Settle(r *bridge.Result) {
	o.mu.Lock()
	before := o.Before
	twice := o.settled[r.Token]
	o.settled[r.Token] = true
	o.mu.Unlock()
	if twice {
		o.t.Errorf("message %d was settled twice", r.Token)
	}
	if before != nil {
		before()
	}
	x := Outcome{Token: r.Token, Duplicate: r.Duplicate, Refused: r.Refused}
	if m := r.Message; m != nil {
		x.Message = bridge.Message{
			Token: m.Token, Subject: slices.Clone(m.Subject), ID: slices.Clone(m.ID), Payload: slices.Clone(m.Payload),
		}
		for _, h := range m.Headers {
			x.Message.Headers = append(x.Message.Headers, bridge.Header{Name: h.Name, Value: slices.Clone(h.Value)})
		}
	}
	o.Results <- x
}

// SettleDone implements [bridge.Settler].
func (o *Outcomes) SettleDone() { o.Done.Add(1) }

// Wait receives n results.
func (o *Outcomes) Wait(n int) []Outcome {
	o.t.Helper()
	out := make([]Outcome, n)
	for i := range out {
		out[i] = Receive(o.t, fmt.Sprintf("result %d of %d", i+1, n), o.Results)
	}
	return out
}
