package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/streams"
)

// StreamStatus is one of the configured streams.
type StreamStatus struct {
	Name string `json:"name"`
	// StreamState is nil where the stream could not be read; Problem says why.
	*StreamState
	Problem string `json:"problem,omitempty"`
}

// StreamState is what a stream holds. First and last are zero while it was never
// written to.
type StreamState struct {
	Messages      uint64    `json:"messages"`
	Bytes         uint64    `json:"bytes"`
	FirstSequence uint64    `json:"first_sequence"`
	LastSequence  uint64    `json:"last_sequence"`
	FirstTime     time.Time `json:"first_time,omitzero"`
	LastTime      time.Time `json:"last_time,omitzero"`
}

// statusPatience bounds reading all streams: a server that is there answers in
// milliseconds, and somebody waits for the page.
const statusPatience = 2 * time.Second

// streamsStatus reads the streams from the server, all at once.
func (c *control) streamsStatus(ctx context.Context, specs []streams.Spec) []StreamStatus {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	all := make([]StreamStatus, len(specs))
	var wait sync.WaitGroup
	for i, spec := range specs {
		wait.Go(func() {
			all[i].Name = spec.Name
			state, err := c.streamState(ctx, spec.Name)
			if err != nil {
				all[i].Problem = err.Error()
				return
			}
			all[i].StreamState = state
		})
	}
	wait.Wait()
	return all
}

func (c *control) streamState(ctx context.Context, name string) (*StreamState, error) {
	if !c.connected() {
		return nil, errors.New("not available: nats is not connected")
	}
	stream, err := c.js.Stream(ctx, name)
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return nil, errors.New("the stream does not exist")
	case errors.Is(err, context.DeadlineExceeded):
		// nats-server tells a client that it may not ask by a message to
		// nobody in particular, which ends in the log.
		return nil, fmt.Errorf("not available: no answer within %s; may this user ask for stream info?", statusPatience)
	case err != nil:
		return nil, fmt.Errorf("read stream info: %w", err)
	}
	s := stream.CachedInfo().State
	return &StreamState{
		Messages: s.Msgs, Bytes: s.Bytes,
		FirstSequence: s.FirstSeq, LastSequence: s.LastSeq,
		FirstTime: s.FirstTime, LastTime: s.LastTime,
	}, nil
}
