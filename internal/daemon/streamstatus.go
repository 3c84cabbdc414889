package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/plan"
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

// streamsFresh is how old a reading of the streams may be for /metrics.
const streamsFresh = 5 * time.Second

// streamReading is the latest reading of the streams.
type streamReading struct {
	mu  sync.Mutex
	at  time.Time
	all []StreamStatus
}

// readStreams reads the streams and keeps the reading for latestStreams.
func (c *control) readStreams(ctx context.Context, p *plan.Plan) []StreamStatus {
	all := c.streamsStatus(ctx, p.Streams, p.Consumers)
	if ctx.Err() == nil {
		c.reading.mu.Lock()
		defer c.reading.mu.Unlock()
		c.reading.at, c.reading.all = time.Now(), all
	}
	return all
}

// latestStreams is a reading that is at most streamsFresh old: scrapes and the page do not
// ask twice.
func (c *control) latestStreams(p *plan.Plan) []StreamStatus {
	c.reading.mu.Lock()
	at, all := c.reading.at, c.reading.all
	c.reading.mu.Unlock()
	if time.Since(at) < streamsFresh {
		return all
	}
	return c.readStreams(context.Background(), p)
}

func (c *control) streamState(ctx context.Context, name string) (*StreamState, error) {
	if !c.connected() {
		return nil, errors.New("not available: nats is not connected")
	}
	var info *natsjs.StreamInfo
	err := c.ask(ctx, ".STREAM.INFO."+name, func(ctx context.Context) error {
		stream, err := c.js.Stream(ctx, name)
		if err == nil {
			info = stream.CachedInfo()
		}
		return err
	})
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return nil, errors.New("the stream does not exist")
	case err != nil:
		return nil, fmt.Errorf("not available: %w", err)
	}
	s, limits := info.State, info.Config
	return &StreamState{
		MaxBytes: max(limits.MaxBytes, 0), MaxMessages: max(limits.MaxMsgs, 0), DiscardsNew: limits.Discard == natsjs.DiscardNew,
		Messages: s.Msgs, Bytes: s.Bytes,
		FirstSequence: s.FirstSeq, LastSequence: s.LastSeq,
		FirstTime: s.FirstTime, LastTime: s.LastTime,
	}, nil
}

func (c *control) consumerStatus(ctx context.Context, spec streams.ConsumerSpec) ConsumerStatus {
	s := ConsumerStatus{Name: spec.Name}
	var info *natsjs.ConsumerInfo
	err := c.ask(ctx, ".CONSUMER.INFO."+spec.Stream+"."+spec.Name, func(ctx context.Context) error {
		consumer, err := c.js.Consumer(ctx, spec.Stream, spec.Name)
		if err == nil {
			info = consumer.CachedInfo()
		}
		return err
	})
	switch {
	case errors.Is(err, natsjs.ErrConsumerNotFound):
		s.Problem = "the consumer does not exist"
		return s
	case err != nil:
		s.Problem = fmt.Sprintf("not available: %v", err)
		return s
	}
	s.Lag = info.NumPending + uint64(max(info.NumAckPending, 0))
	s.AckPending, s.Redelivered, s.Waiting = info.NumAckPending, info.NumRedelivered, info.NumWaiting
	return s
}

// refusedFor is how long a refused question is not asked again: nats-server logs each.
const refusedFor = time.Minute

// refusal is why a question was refused, and when.
type refusal struct {
	*conn.PermissionError
	at time.Time
}

// ask makes a request to the subject of JetStream's API, unless it was refused lately.
func (c *control) ask(ctx context.Context, subject string, request func(context.Context) error) error {
	if known, ok := c.refused.Load(subject); ok {
		if r := known.(refusal); time.Since(r.at) < refusedFor {
			return r.PermissionError
		}
	}
	err := c.denied.Do(ctx, func(p *conn.PermissionError) bool { return strings.HasSuffix(p.Subject, subject) }, request)
	var denied *conn.PermissionError
	if errors.As(err, &denied) {
		c.refused.Store(subject, refusal{denied, time.Now()})
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", statusPatience)
	}
	return err
}
