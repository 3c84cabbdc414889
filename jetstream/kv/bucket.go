// Package kv follows a KV bucket for as long as a program runs.
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

// Reader takes what a KV bucket holds. All calls come from one goroutine.
type Reader interface {
	// Begin: the bucket is read from its beginning. What was known goes on
	// serving until Done, and what has not come by then is gone.
	Begin()
	// Put: the key has this value. value may be kept.
	Put(key string, value []byte, revision uint64)
	// Delete: the key was deleted.
	Delete(key string, revision uint64)
	// Done follows one or more of the calls above when nothing more is at hand.
	// The first after Begin says that the bucket has been read to its end.
	Done()
}

// Options say which bucket is followed, and by whom. All are required but
// Changed, Denied and Probe.
type Options struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	Name      string
	Reader    Reader
	// Changed is told of every change of state, from the goroutine that runs.
	Changed func(State)
	// Denied gets what the user of Conn may not do. It is to be told in the hook of
	// errors: JetStream does not answer a request that the user may not make.
	Denied *conn.Violations
	// Probe is how often the bucket is looked at, besides being followed. 0: 2 s.
	Probe time.Duration
}

// State is how a bucket is followed.
type State struct {
	// Live: every change arrives as it is made.
	Live  bool      `json:"live"`
	Since time.Time `json:"since"` // of Live, or of not Live
	// Err is why the bucket is not followed, a [MissingError] or a conn.PermissionError
	// among others; nil where it is.
	Err error `json:"-"`
	// LoadedAt is when the bucket was last read whole; zero: never.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// ChangedAt is when the latest entry that was read was written.
	ChangedAt time.Time `json:"changed_at,omitzero"`
}

// Bucket follows a KV bucket for as long as it runs: through reconnects, restarts
// of the server, and the bucket's end and return.
//
// nats.go's watcher alone does not do that (read in 1.55.0). It is an ordered push
// consumer: when the server has forgotten the consumer, which every restart of a
// single server does, that shows only by two missing heartbeats, after 10 s; it
// then goes on from the sequence after its last. In a bucket that was deleted and
// made again that sequence lies in the future, and nothing would ever come. And
// where the consumer cannot be made again, the watcher either ends or tries for
// ever, in silence. So a new watcher is made at every reconnect, which reads the
// whole bucket: a deletion that was missed meanwhile is seen by its absence. And
// the stream is looked at every two seconds: whether it is the same stream still,
// and whether what it holds has arrived.
type Bucket struct {
	o Options

	mu    sync.Mutex
	state State
}

const (
	// probeInterval bounds how long a bucket that is made, deleted or made
	// again goes unnoticed.
	probeInterval = 2 * time.Second
	// bucketPatience bounds each request.
	bucketPatience = 5 * time.Second
	// forbiddenPause is between attempts at what the user may not: each is a
	// line in the server's log.
	forbiddenPause = time.Minute
)

// NewBucket returns a bucket that is not followed yet; see Run.
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

// State returns how the bucket is followed just now.
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

// concerns reports whether a permission is one that following the bucket needs.
func (b *Bucket) concerns(p *conn.PermissionError) bool {
	return strings.Contains(p.Subject+".", "KV_"+b.o.Name+".")
}

// Follow reads the bucket and delivers its changes until ctx ends or something is wrong
// with that: the error says what. Run is Follow again and again.
func (b *Bucket) Follow(ctx context.Context) error {
	changes := b.changes()
	defer b.o.Conn.RemoveStatusListener(changes)
	return b.follow(ctx, changes)
}

func (b *Bucket) changes() chan nats.Status {
	return b.o.Conn.StatusChanged(nats.CONNECTED, nats.RECONNECTING)
}

// Run follows the bucket until ctx ends. The connection stays open.
func (b *Bucket) Run(ctx context.Context) {
	changes := b.changes()
	defer b.o.Conn.RemoveStatusListener(changes)
	for ctx.Err() == nil {
		if !b.o.Conn.IsConnected() {
			b.stale(errNotConnected)
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

// ErrReadAgain means that the bucket can be followed, but has to be read from its
// beginning: NATS is connected again, or the bucket was created again.
var ErrReadAgain = errors.New("the bucket has to be read again")

var errNotConnected = errors.New("not connected to NATS")

// pause waits for that long, or until the connection changes.
func (b *Bucket) pause(ctx context.Context, changes <-chan nats.Status, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-changes:
	case <-time.After(d):
	}
}

// follow reads the bucket and delivers its changes until something is wrong with
// that.
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
		bucket: b, made: stream.Created, held: stream.State.LastSeq, updates: watcher.Updates(),
		deadline: time.Now().Add(bucketPatience),
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
			b.stale(errNotConnected)
		case entry, ok := <-r.updates:
			if !ok || !r.take(entry) {
				return errors.New("the server ended the subscription")
			}
		case <-probe.C:
			// The channel of changes drops what finds no room in it.
			if b.o.Conn.IsConnected() && b.o.Conn.Stats().Reconnects != generation {
				return ErrReadAgain
			}
			if err := b.recheck(ctx, cancel, r); err != nil {
				return err
			}
		}
	}
}

// stopWatcher also empties the watcher: its callback would wait for ever for room
// in the channel of updates. Where the connection is away the consumer is not
// deleted; the server forgets it by itself.
func stopWatcher(w natsjs.KeyWatcher) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = w.Stop()
	}()
	patience := time.After(bucketPatience)
	for updates := w.Updates(); updates != nil; {
		select {
		case _, ok := <-updates:
			if !ok {
				updates = nil
			}
		case <-patience:
			updates = nil
		}
	}
	<-stopped
}

// reading is a bucket being read.
type reading struct {
	bucket   *Bucket
	made     time.Time // when the stream was: another one is another bucket
	held     uint64    // its last sequence when this reading began
	updates  <-chan natsjs.KeyValueEntry
	complete bool
	reported bool      // that it is
	deadline time.Time // by which something must arrive, while not complete
	last     uint64    // sequence up to which everything has come
	changed  time.Time
	behind   uint64 // what the stream held at the last look and had not arrived; 0: nothing
}

// take delivers an entry and all others at hand; false where the watcher ended.
func (r *reading) take(entry natsjs.KeyValueEntry) bool {
	b, ended, news := r.bucket, false, false
	for {
		switch {
		case entry == nil: // nats.go's mark: all that was there has come
			// Up to held everything has come, though the last message may have been
			// removed, as a mark of a deletion is by nats kv compact.
			r.complete, r.last = true, max(r.last, r.held)
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
	r.deadline = time.Now().Add(bucketPatience)
	if r.complete {
		b.o.Reader.Done()
		b.live(r, news)
	}
	return !ended
}

// recheck finds what nobody tells: that the bucket is another one, or that the server
// has forgotten the consumer.
func (b *Bucket) recheck(ctx context.Context, cancel context.CancelCauseFunc, r *reading) error {
	if !b.o.Conn.IsConnected() {
		return nil
	}
	info, err := b.info(ctx, cancel)
	switch {
	case err != nil:
		return err
	case !info.Created.Equal(r.made):
		return ErrReadAgain
	case !r.complete:
		if time.Now().After(r.deadline) {
			return fmt.Errorf("its entries do not arrive: none for %s", bucketPatience)
		}
		return nil
	}
	// The last sequence may be that of a purge, which leaves no message behind:
	// what counts is that the same one is missing twice.
	if last := info.State.LastSeq; last <= r.last || info.State.Msgs == 0 {
		r.behind = 0
	} else if r.behind == 0 {
		r.behind = last
	} else if r.last < r.behind {
		return ErrReadAgain
	}
	return nil
}

// info reads the bucket's stream.
func (b *Bucket) info(ctx context.Context, cancel context.CancelCauseFunc) (*natsjs.StreamInfo, error) {
	stream, err := ask(ctx, b, cancel, func() (natsjs.Stream, error) { return b.o.JetStream.Stream(ctx, "KV_"+b.o.Name) })
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// watch makes a watcher, which lives as long as ctx.
func (b *Bucket) watch(ctx context.Context, cancel context.CancelCauseFunc) (natsjs.KeyWatcher, error) {
	kv, err := ask(ctx, b, cancel, func() (natsjs.KeyValue, error) { return b.o.JetStream.KeyValue(ctx, b.o.Name) })
	if err != nil {
		return nil, err
	}
	return ask(ctx, b, cancel, func() (natsjs.KeyWatcher, error) { return kv.WatchAll(ctx) })
}

// ask makes a request. It ends ctx after bucketPatience, as Denied does where the server
// says that the user may not make it: a watcher lives as long as the context of its request.
func ask[T any](ctx context.Context, b *Bucket, cancel context.CancelCauseFunc, request func() (T, error)) (T, error) {
	timeout := time.AfterFunc(bucketPatience, func() { cancel(context.DeadlineExceeded) })
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
		err = fmt.Errorf("stream KV_%s is no KV bucket", b.o.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = fmt.Errorf("JetStream did not answer within %s", bucketPatience)
	}
	return value, err
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
	if s.Live {
		s.Live, s.Since = false, time.Now()
	}
	s.Err = err
	told := s.Live != b.state.Live || b.state.Err == nil || s.Err.Error() != b.state.Err.Error()
	b.state = s
	b.mu.Unlock()
	if told {
		b.o.Changed(s)
	}
}
