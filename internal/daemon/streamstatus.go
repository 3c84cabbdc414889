package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
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
	// MaxBytes and MaxMessages are the stream's limits; 0: none.
	MaxBytes    int64 `json:"max_bytes,omitempty"`
	MaxMessages int64 `json:"max_messages,omitempty"`
	// DiscardsNew: a full stream takes nothing more, instead of losing its oldest message.
	DiscardsNew bool             `json:"discards_new,omitempty"`
	Consumers   []ConsumerStatus `json:"consumers,omitempty"`
}

// Fill is how much of the stream's limits is used, 0 to 1; false where it has none.
func (s *StreamState) Fill() (float64, bool) {
	fill := 0.0
	if s.MaxBytes > 0 {
		fill = float64(s.Bytes) / float64(s.MaxBytes)
	}
	if s.MaxMessages > 0 {
		fill = max(fill, float64(s.Messages)/float64(s.MaxMessages))
	}
	return fill, s.MaxBytes > 0 || s.MaxMessages > 0
}

// ConsumerStatus is a declared consumer of a stream.
type ConsumerStatus struct {
	Name string `json:"name"`
	// Lag are the messages that it has not acknowledged: those not delivered yet, and
	// AckPending.
	Lag         uint64 `json:"lag"`
	AckPending  int    `json:"ack_pending"`
	Redelivered int    `json:"redelivered"`
	// Waiting are requests for messages: 0 where no program pulls.
	Waiting int    `json:"waiting"`
	Problem string `json:"problem,omitempty"` // why it could not be read
}

// statusPatience bounds reading all streams: a server that is there answers in
// milliseconds, and somebody waits for the page.
const statusPatience = 2 * time.Second

// streamsStatus reads the streams and their consumers from the server, all at once.
func (c *control) streamsStatus(ctx context.Context, specs []streams.Spec, consumers []streams.ConsumerSpec) []StreamStatus {
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
			for _, consumer := range consumers {
				if consumer.Stream == spec.Name {
					state.Consumers = append(state.Consumers, c.consumerStatus(ctx, consumer))
				}
			}
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
	s, limits := stream.CachedInfo().State, stream.CachedInfo().Config
	return &StreamState{
		MaxBytes: max(limits.MaxBytes, 0), MaxMessages: max(limits.MaxMsgs, 0), DiscardsNew: limits.Discard == natsjs.DiscardNew,
		Messages: s.Msgs, Bytes: s.Bytes,
		FirstSequence: s.FirstSeq, LastSequence: s.LastSeq,
		FirstTime: s.FirstTime, LastTime: s.LastTime,
	}, nil
}

// refusedFor is how long a refused question is not asked again: nats-server logs each.
const refusedFor = time.Minute

func (c *control) consumerStatus(ctx context.Context, spec streams.ConsumerSpec) ConsumerStatus {
	s := ConsumerStatus{Name: spec.Name}
	subject := ".CONSUMER.INFO." + spec.Stream + "." + spec.Name
	if refused, ok := c.refused.Load(subject); ok && time.Since(refused.(time.Time)) < refusedFor {
		s.Problem = "not available: the NATS user may not publish to $JS.API" + subject
		return s
	}
	ctx, stop := c.denied.Guard(ctx, func(p *conn.PermissionError) bool { return strings.HasSuffix(p.Subject, subject) })
	defer stop()
	consumer, err := c.js.Consumer(ctx, spec.Stream, spec.Name)
	switch {
	case errors.Is(err, natsjs.ErrConsumerNotFound):
		s.Problem = "the consumer does not exist"
		return s
	case err != nil:
		var denied *conn.PermissionError
		if errors.As(context.Cause(ctx), &denied) {
			c.refused.Store(subject, time.Now())
		}
		s.Problem = fmt.Sprintf("not available: %v", cmp.Or(context.Cause(ctx), err))
		return s
	}
	info := consumer.CachedInfo()
	s.Lag = info.NumPending + uint64(max(info.NumAckPending, 0))
	s.AckPending, s.Redelivered, s.Waiting = info.NumAckPending, info.NumRedelivered, info.NumWaiting
	return s
}
