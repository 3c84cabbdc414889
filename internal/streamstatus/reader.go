// Package streamstatus reads the state of the configured streams and of their declared consumers.
package streamstatus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/metrics"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// Stream is the status of one configured stream.
type Stream struct {
	Name string `json:"name"`
	// State is nil if the stream could not be read. Problem is then the reason.
	*State
	Problem string `json:"problem,omitempty"`
}

// State describes a stream's contents. The first and last fields are zero until the first write.
type State struct {
	Messages      uint64    `json:"messages"`
	Bytes         uint64    `json:"bytes"`
	FirstSequence uint64    `json:"first_sequence"`
	LastSequence  uint64    `json:"last_sequence"`
	FirstTime     time.Time `json:"first_time,omitzero"`
	LastTime      time.Time `json:"last_time,omitzero"`
	// MaxBytes and MaxMessages are the stream's limits; 0: none.
	MaxBytes    int64 `json:"max_bytes,omitempty"`
	MaxMessages int64 `json:"max_messages,omitempty"`
	// DiscardsNew means that the full stream refuses messages instead of dropping its oldest ones.
	DiscardsNew bool       `json:"discards_new,omitempty"`
	Consumers   []Consumer `json:"consumers,omitempty"`
}

// Fill returns the used share of the stream's limits, from 0 to 1; false if it has no limits.
func (s *State) Fill() (float64, bool) {
	fill := 0.0
	if s.MaxBytes > 0 {
		fill = float64(s.Bytes) / float64(s.MaxBytes)
	}
	if s.MaxMessages > 0 {
		fill = max(fill, float64(s.Messages)/float64(s.MaxMessages))
	}
	return fill, s.MaxBytes > 0 || s.MaxMessages > 0
}

// Consumer is the status of a declared consumer of a stream.
type Consumer struct {
	Name string `json:"name"`
	// Lag is the number of messages that the consumer has not acknowledged: those that are not
	// delivered yet, and AckPending.
	Lag         uint64 `json:"lag"`
	AckPending  int    `json:"ack_pending"`
	Redelivered int    `json:"redelivered"`
	// Waiting is the number of waiting pull requests; 0 if no program pulls.
	Waiting int    `json:"waiting"`
	Problem string `json:"problem,omitempty"` // why it could not be read
}

// Options configures a Reader. All fields except Consumers are required.
type Options struct {
	JetStream natsjs.JetStream
	Denied    *conn.Violations // the permission violations of the connection
	Streams   []streams.Spec
	Consumers []streams.ConsumerSpec
}

// Reader reads the state of the streams and keeps the latest reading.
type Reader struct {
	o         Options
	streams   *metrics.List[State]
	consumers *metrics.List[Consumer]
	// refused maps the API subjects without permission to their refusal.
	refused sync.Map

	mu     sync.Mutex
	at     time.Time // time of the latest reading
	latest []Stream
}

// New returns a Reader that has not read yet.
func New(o Options) *Reader {
	return &Reader{o: o, streams: streamMetrics(), consumers: consumerMetrics()}
}

// readTimeout bounds the reading of all streams. A reachable server answers in milliseconds, and users
// wait for the page.
const readTimeout = 2 * time.Second

// freshFor is the maximum age of a reading that Latest returns.
const freshFor = 5 * time.Second

// Read reads all streams and their consumers concurrently from the server.
func (r *Reader) Read(ctx context.Context) []Stream {
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all := make([]Stream, len(r.o.Streams))
	var wait sync.WaitGroup
	for i, spec := range r.o.Streams {
		wait.Go(func() {
			all[i].Name = spec.Name
			state, err := r.state(bounded, spec.Name)
			if err != nil {
				all[i].Problem = err.Error()
				return
			}
			all[i].State = state
			for _, consumer := range r.o.Consumers {
				if consumer.Stream == spec.Name {
					state.Consumers = append(state.Consumers, r.consumer(bounded, consumer))
				}
			}
		})
	}
	wait.Wait()
	if ctx.Err() == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.at, r.latest = time.Now(), all
	}
	return all
}

// Latest returns a reading that is at most freshFor old, so that scrapes and the page share requests.
func (r *Reader) Latest() []Stream {
	r.mu.Lock()
	at, all := r.at, r.latest
	r.mu.Unlock()
	if time.Since(at) < freshFor {
		return all
	}
	return r.Read(context.Background())
}

func (r *Reader) state(ctx context.Context, name string) (*State, error) {
	stream, err := request(ctx, r, ".STREAM.INFO."+name, func(ctx context.Context) (natsjs.Stream, error) {
		return r.o.JetStream.Stream(ctx, name)
	})
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return nil, errors.New("the stream does not exist")
	case err != nil:
		return nil, fmt.Errorf("not available: %w", conn.Disconnected(err))
	}
	s, limits := stream.CachedInfo().State, stream.CachedInfo().Config
	return &State{
		MaxBytes: max(limits.MaxBytes, 0), MaxMessages: max(limits.MaxMsgs, 0), DiscardsNew: limits.Discard == natsjs.DiscardNew,
		Messages: s.Msgs, Bytes: s.Bytes,
		FirstSequence: s.FirstSeq, LastSequence: s.LastSeq,
		FirstTime: s.FirstTime, LastTime: s.LastTime,
	}, nil
}

func (r *Reader) consumer(ctx context.Context, spec streams.ConsumerSpec) Consumer {
	s := Consumer{Name: spec.Name}
	consumer, err := request(ctx, r, ".CONSUMER.INFO."+spec.Stream+"."+spec.Name, func(ctx context.Context) (natsjs.Consumer, error) {
		return r.o.JetStream.Consumer(ctx, spec.Stream, spec.Name)
	})
	switch {
	case errors.Is(err, natsjs.ErrConsumerNotFound):
		s.Problem = "the consumer does not exist"
		return s
	case err != nil:
		s.Problem = fmt.Sprintf("not available: %v", conn.Disconnected(err))
		return s
	}
	info := consumer.CachedInfo()
	s.Lag = info.NumPending + uint64(max(info.NumAckPending, 0))
	s.AckPending, s.Redelivered, s.Waiting = info.NumAckPending, info.NumRedelivered, info.NumWaiting
	return s
}

// refusedFor is how long a refused request is not repeated, because nats-server logs each refusal.
const refusedFor = time.Minute

// refusal is the reason and the time of a refused request.
type refusal struct {
	*conn.PermissionError
	at time.Time
}

// request calls send, which sends a request to the subject of JetStream's API, unless that was refused
// recently.
func request[T any](ctx context.Context, r *Reader, subject string, send func(context.Context) (T, error)) (answer T, err error) {
	if known, ok := r.refused.Load(subject); ok {
		if refused := known.(refusal); time.Since(refused.at) < refusedFor {
			return answer, refused.PermissionError
		}
	}
	concerns := func(p *conn.PermissionError) bool { return strings.HasSuffix(p.Subject, subject) }
	err = r.o.Denied.Do(ctx, concerns, func(ctx context.Context) (err error) {
		answer, err = send(ctx)
		return err
	})
	var denied *conn.PermissionError
	if errors.As(err, &denied) {
		r.refused.Store(subject, refusal{denied, time.Now()})
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", readTimeout)
	}
	return answer, err
}
