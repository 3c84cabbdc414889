// Package kv watches a KV bucket for the lifetime of a program.
package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// Reader receives the entries of a KV bucket. All calls come from one goroutine.
type Reader interface {
	// Begin announces that the bucket is read from its beginning. Known entries stay valid until
	// Done; those not delivered by then no longer exist.
	Begin()
	// Put reports the value of a key. value may be kept.
	Put(key string, value []byte, revision uint64)
	// Delete reports that the key was deleted.
	Delete(key string, revision uint64)
	// Done follows one or more of the calls above when no more entries are available. The first
	// Done after Begin means that the bucket has been read to its end.
	Done()
}

// Options describes the bucket and its reader. All fields are required except Changed, Denied and
// Probe.
type Options struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	Name      string
	Reader    Reader
	// Changed is called at every change of state, from the goroutine of Run.
	Changed func(State)
	// Denied receives the permission violations of Conn; its Note must be called in the Error hook.
	// JetStream does not answer a request without permission.
	Denied *conn.Violations
	// Probe is the interval at which the bucket is checked in addition to being watched. 0: 2 s.
	Probe time.Duration
}

// State describes whether a bucket is followed.
type State struct {
	// Live means that every change arrives immediately.
	Live  bool      `json:"live"`
	Since time.Time `json:"since"` // when Live or Missing last changed
	// Err is why the bucket is not followed, for example a [MissingError] or a
	// conn.PermissionError; nil if Live.
	Err error `json:"-"`
	// LoadedAt is when the bucket was last read completely; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// ChangedAt is when the newest entry read was written.
	ChangedAt time.Time `json:"changed_at,omitzero"`
}

// Bucket follows a KV bucket while Run runs: through reconnects, restarts of the server, and
// deletion and re-creation of the bucket.
//
// nats.go's watcher alone does not do that (read in 1.55.0). It is an ordered push consumer. When
// the server has lost the consumer, as after every restart of a single server, it notices by two
// missing heartbeats, after 10 s, and continues after its last sequence. In a bucket that was
// deleted and created again, that sequence is in the future, and no entry would ever arrive. If the
// consumer cannot be created again, the watcher either ends or retries forever, silently. So every
// reconnect creates a new watcher, which reads the whole bucket: the absence of a key shows a
// missed deletion. In addition the stream is checked every two seconds: whether it is still the
// same stream with the same TTL, and whether all its entries have arrived.
type Bucket struct {
	o Options

	mu    sync.Mutex
	state State
}

const (
	// probeInterval bounds how long it takes to notice that a bucket was created, deleted or
	// created again.
	probeInterval = 2 * time.Second
	// requestTimeout bounds each request.
	requestTimeout = 5 * time.Second
	// forbiddenPause is the pause between attempts without permission: each one adds a line to the
	// server's log.
	forbiddenPause = time.Minute
)

// NewBucket returns a bucket that is not followed until Run is called.
func NewBucket(o Options) *Bucket {
	if o.Probe <= 0 {
		o.Probe = probeInterval
	}
	if o.Changed == nil {
		o.Changed = func(State) {}
	}
	if o.Denied == nil {
		o.Denied = &conn.Violations{}
	}
	return &Bucket{o: o, state: State{Since: time.Now(), Err: errors.New("not read yet")}}
}

// State returns whether the bucket is followed at present.
func (b *Bucket) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Missing reports whether the bucket does not exist.
func (s State) Missing() bool {
	var missing *MissingError
	return errors.As(s.Err, &missing)
}

// MissingError means that the bucket does not exist.
type MissingError struct{ Bucket string }

// Error implements error.
func (*MissingError) Error() string { return "the bucket does not exist" }

// concerns reports whether following the bucket needs the permission.
func (b *Bucket) concerns(p *conn.PermissionError) bool {
	return strings.Contains(p.Subject+".", "KV_"+b.o.Name+".")
}

// Follow reads the bucket and delivers its changes until ctx ends or it fails; the error says why.
// Run repeats Follow.
func (b *Bucket) Follow(ctx context.Context) error {
	changes := b.changes()
	defer b.o.Conn.RemoveStatusListener(changes)
	return b.follow(ctx, changes)
}

func (b *Bucket) changes() chan nats.Status {
	return b.o.Conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING)
}

// Run follows the bucket until ctx ends. It does not close the connection.
func (b *Bucket) Run(ctx context.Context) {
	changes := b.changes()
	defer b.o.Conn.RemoveStatusListener(changes)
	for ctx.Err() == nil {
		if !b.o.Conn.IsConnected() {
			b.stale(conn.ErrDisconnected)
			b.pause(ctx, changes, b.o.Probe)
			continue
		}
		err := b.follow(ctx, changes)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrReadAgain):
		case errors.Is(err, nats.ErrPermissionViolation):
			b.stale(err)
			b.pause(ctx, changes, forbiddenPause)
		default:
			b.stale(err)
			b.pause(ctx, changes, b.o.Probe/2+rand.N(b.o.Probe/2+1))
		}
	}
}

// ErrReadAgain means that the bucket must be read from its beginning: NATS has reconnected, the
// bucket was created again, or its TTL was changed.
var ErrReadAgain = errors.New("the bucket has to be read again")

// pause waits for d, or until the connection changes.
func (b *Bucket) pause(ctx context.Context, changes <-chan nats.Status, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-changes:
	case <-time.After(d):
	}
}

// follow reads the bucket and delivers its changes until it fails.
func (b *Bucket) follow(ctx context.Context, changes <-chan nats.Status) error {
	for len(changes) > 0 {
		<-changes // reported before this watcher began
	}
	generation := b.o.Conn.Stats().Reconnects
	ctx, stop := b.o.Denied.Guard(ctx, b.concerns)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := b.info(ctx, cancel)
	if err != nil {
		return err
	}
	watcher, err := b.watch(ctx, cancel)
	if err != nil {
		return err
	}
	defer stopWatcher(watcher)
	r := &reading{
		bucket: b, created: stream.Created, ttl: stream.Config.MaxAge, lastAtStart: stream.State.LastSeq, updates: watcher.Updates(),
		deadline: time.Now().Add(requestTimeout),
	}
	b.o.Reader.Begin()
	probe := time.NewTicker(b.o.Probe)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s := <-changes:
			if s == nats.CONNECTED {
				return ErrReadAgain
			}
			b.stale(conn.ErrDisconnected)
		case entry, ok := <-r.updates:
			if !ok || !r.take(entry) {
				return errors.New("the server ended the subscription")
			}
		case <-probe.C:
			// The channel of changes drops what does not fit.
			if b.o.Conn.IsConnected() && b.o.Conn.Stats().Reconnects != generation {
				return ErrReadAgain
			}
			if err := b.recheck(ctx, cancel, r); err != nil {
				return err
			}
		}
	}
}

// stopWatcher also drains the watcher: otherwise its callback would block forever on the channel of
// updates. Without a connection the consumer is not deleted; the server removes it by itself.
func stopWatcher(w natsjs.KeyWatcher) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = w.Stop()
	}()
	timeout := time.After(requestTimeout)
	for updates := w.Updates(); updates != nil; {
		select {
		case _, ok := <-updates:
			if !ok {
				updates = nil
			}
		case <-timeout:
			updates = nil
		}
	}
	<-stopped
}

// reading is the state of one read of the bucket.
type reading struct {
	bucket      *Bucket
	created     time.Time // of the stream: another time means another bucket
	ttl         time.Duration
	lastAtStart uint64 // its last sequence when this reading began
	updates     <-chan natsjs.KeyValueEntry
	complete    bool
	reported    bool      // the bucket has been read to its end
	deadline    time.Time // when the next entry is due, while not complete
	last        uint64    // sequence up to which everything has arrived
	changed     time.Time
	behind      uint64 // the last sequence at the previous check, if it had not arrived; 0: all had
}

// take delivers an entry and all others available; false: the watcher ended.
func (r *reading) take(entry natsjs.KeyValueEntry) bool {
	b, ended, news := r.bucket, false, false
	for {
		switch {
		case entry == nil: // nats.go's marker: all existing entries have arrived
			// Everything up to lastAtStart has arrived, although the last message may have been removed:
			// nats kv compact removes the markers of deletions.
			r.complete, r.last = true, max(r.last, r.lastAtStart)
		case entry.Operation() == natsjs.KeyValuePut:
			b.o.Reader.Put(entry.Key(), entry.Value(), entry.Revision())
		default:
			b.o.Reader.Delete(entry.Key(), entry.Revision())
		}
		if entry != nil {
			r.last, r.changed, news = max(r.last, entry.Revision()), entry.Created(), true
		}
		select {
		case next, ok := <-r.updates:
			if entry = next; ok {
				continue
			}
			ended = true
		default:
		}
		break
	}
	r.deadline = time.Now().Add(requestTimeout)
	if r.complete {
		b.o.Reader.Done()
		b.live(r, news)
	}
	return !ended
}

// recheck detects what nats.go does not report: the bucket was replaced, its TTL was changed, or the
// server has lost the consumer.
func (b *Bucket) recheck(ctx context.Context, cancel context.CancelCauseFunc, r *reading) error {
	if !b.o.Conn.IsConnected() {
		return nil
	}
	info, err := b.info(ctx, cancel)
	switch {
	case err != nil:
		return err
	case !info.Created.Equal(r.created), info.Config.MaxAge != r.ttl:
		return ErrReadAgain
	case !r.complete:
		if time.Now().After(r.deadline) {
			return fmt.Errorf("its entries do not arrive: none for %s", requestTimeout)
		}
		return nil
	}
	// The last sequence may be that of a purge, which leaves no message. So it counts as missing
	// only at the second check.
	if last := info.State.LastSeq; last <= r.last || info.State.Msgs == 0 {
		r.behind = 0
	} else if r.behind == 0 {
		r.behind = last
	} else if r.last < r.behind {
		return ErrReadAgain
	}
	return nil
}

// info reads the state of the bucket's stream.
func (b *Bucket) info(ctx context.Context, cancel context.CancelCauseFunc) (*natsjs.StreamInfo, error) {
	stream, err := ask(ctx, b, cancel, func() (natsjs.Stream, error) { return b.o.JetStream.Stream(ctx, "KV_"+b.o.Name) })
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// watch creates a watcher that lives as long as ctx.
func (b *Bucket) watch(ctx context.Context, cancel context.CancelCauseFunc) (natsjs.KeyWatcher, error) {
	kv, err := ask(ctx, b, cancel, func() (natsjs.KeyValue, error) { return b.o.JetStream.KeyValue(ctx, b.o.Name) })
	if err != nil {
		return nil, err
	}
	return ask(ctx, b, cancel, func() (natsjs.KeyWatcher, error) { return kv.WatchAll(ctx) })
}

// ask sends a request. ctx ends after requestTimeout, or when Denied reports that the user lacks
// the permission. A watcher lives as long as the context of its request.
func ask[T any](ctx context.Context, b *Bucket, cancel context.CancelCauseFunc, request func() (T, error)) (T, error) {
	timeout := time.AfterFunc(requestTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timeout.Stop()
	value, err := request()
	if err == nil {
		return value, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case errors.Is(err, natsjs.ErrBucketNotFound), errors.Is(err, natsjs.ErrStreamNotFound):
		err = &MissingError{b.o.Name}
	case errors.Is(err, natsjs.ErrBadBucket):
		err = fmt.Errorf("stream KV_%s is not a KV bucket", b.o.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = fmt.Errorf("JetStream did not answer within %s", requestTimeout)
	}
	return value, conn.Disconnected(err)
}

func (b *Bucket) live(r *reading, news bool) {
	b.mu.Lock()
	s := b.state
	s.Err = nil
	if !s.Live {
		s.Live, s.Since = true, time.Now()
	}
	if !r.reported {
		s.LoadedAt, r.reported = time.Now(), true
	}
	if news {
		s.ChangedAt = r.changed
	}
	changed := s.Live != b.state.Live
	b.state = s
	b.mu.Unlock()
	if changed {
		b.o.Changed(s)
	}
}

func (b *Bucket) stale(err error) {
	b.mu.Lock()
	s := b.state
	s.Live, s.Err = false, err
	if b.state.Live || s.Missing() != b.state.Missing() {
		s.Since = time.Now()
	}
	changed := s.Live != b.state.Live || b.state.Err == nil || s.Err.Error() != b.state.Err.Error()
	b.state = s
	b.mu.Unlock()
	if changed {
		b.o.Changed(s)
	}
}
