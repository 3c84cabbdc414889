package jetstream_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"mqtt-nats-bridge/bridge"
)

// outcome is what a settler was told of one message.
type outcome struct {
	token     uint64
	duplicate bool
	refused   error
	message   bridge.Message // a copy of what was refused
}

// outcomes is a settler that hands results to the test. It fails the test where
// a message is settled twice.
type outcomes struct {
	t       *testing.T
	results chan outcome
	done    atomic.Int64 // calls of SettleDone

	mu      sync.Mutex
	settled map[uint64]bool
	before  func() // runs at the beginning of each Settle
}

func newOutcomes(t *testing.T) *outcomes {
	return &outcomes{t: t, results: make(chan outcome, 1<<18), settled: map[uint64]bool{}}
}

func (o *outcomes) Settle(r *bridge.Result) {
	o.mu.Lock()
	before := o.before
	twice := o.settled[r.Token]
	o.settled[r.Token] = true
	o.mu.Unlock()
	if twice {
		o.t.Errorf("message %d was settled twice", r.Token)
	}
	if before != nil {
		before()
	}
	x := outcome{token: r.Token, duplicate: r.Duplicate, refused: r.Refused}
	if m := r.Message; m != nil {
		x.message = bridge.Message{
			Token: m.Token, Subject: slices.Clone(m.Subject), ID: slices.Clone(m.ID), Payload: slices.Clone(m.Payload),
		}
		for _, h := range m.Headers {
			x.message.Headers = append(x.message.Headers, bridge.Header{Name: h.Name, Value: slices.Clone(h.Value)})
		}
	}
	o.results <- x
}

func (o *outcomes) SettleDone() { o.done.Add(1) }

// wait takes n results.
func (o *outcomes) wait(n int) []outcome {
	o.t.Helper()
	out := make([]outcome, n)
	for i := range out {
		out[i] = receive(o.t, fmt.Sprintf("result %d of %d", i+1, n), o.results)
	}
	return out
}
