// Package kv follows a KV bucket for the lifetime of a program.
package kv

import (
	"context"
	"errors"
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
	// Done. Entries that were not delivered by then no longer exist.
	Begin()
	// Put reports the value of a key. The reader may retain value.
	Put(key string, value []byte, revision uint64)
	// Delete reports that the key was deleted.
	Delete(key string, revision uint64)
	// Done follows one or more of the calls above when no more entries are available. The first
	// Done after Begin means that the bucket has been read to its end.
	Done()
}

// Options configure a [Bucket]. All fields are required except Changed, Denied and Probe.
type Options struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	Name      string
	Reader    Reader
	// Changed is called on every change of state, from the goroutine of Run.
	Changed func(State)
	// Denied receives the permission violations of Conn; its Note must be called in the Error hook.
	// It is needed because JetStream does not answer a request without permission.
	Denied *conn.Violations
	// Probe is the interval at which the bucket is checked in addition to being watched. 0 means 2
	// s.
	Probe time.Duration
}

// Bucket follows a KV bucket while Run runs: through reconnects, restarts of the server, and
// deletion and re-creation of the bucket.
//
// nats.go's watcher alone does not do that (read in 1.55.0). It is an ordered push consumer. If the
// server has lost the consumer, as after every restart of a single server, the watcher notices by
// two missing heartbeats, after 10 s, and continues after its last sequence. In a bucket that was
// deleted and created again, that sequence is in the future, and no entry would ever arrive. If the
// consumer cannot be created again, the watcher either ends or retries forever, silently.
//
// So every reconnect creates a new watcher, which reads the whole bucket: a missing key reveals a
// missed deletion. In addition the stream is checked every two seconds: whether it is still the
// same stream with the same TTL, and whether all its entries have arrived.
type Bucket struct {
	o Options

	mu    sync.Mutex
	state State
}

const (
	// probeInterval bounds the time until the creation, deletion or re-creation of a bucket is
	// noticed.
	probeInterval = 2 * time.Second
	// requestTimeout bounds each request.
	requestTimeout = 5 * time.Second
	// forbiddenPause is the pause between attempts without permission. Each attempt adds a line to
	// the server's log.
	forbiddenPause = time.Minute
)

// NewBucket returns a bucket. It is not followed until Run is called.
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

// needsPermission reports whether following the bucket requires the permission.
func (b *Bucket) needsPermission(p *conn.PermissionError) bool {
	return strings.Contains(p.Subject+".", "KV_"+b.o.Name+".")
}

// Follow reads the bucket and delivers its changes until ctx ends or an error occurs, which it
// returns. Run repeats Follow.
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
			b.setStale(conn.ErrDisconnected)
			b.pause(ctx, changes, b.o.Probe)
			continue
		}
		err := b.follow(ctx, changes)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrReadAgain):
		case errors.Is(err, nats.ErrPermissionViolation):
			b.setStale(err)
			b.pause(ctx, changes, forbiddenPause)
		default:
			b.setStale(err)
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

// follow reads the bucket and delivers its changes until an error occurs.
func (b *Bucket) follow(ctx context.Context, changes <-chan nats.Status) error {
	for len(changes) > 0 {
		<-changes // from before this watcher
	}
	generation := b.o.Conn.Stats().Reconnects
	ctx, stop := b.o.Denied.Guard(ctx, b.needsPermission)
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
			b.setStale(conn.ErrDisconnected)
		case entry, ok := <-r.updates:
			if !ok || !r.deliver(entry) {
				return errors.New("the server ended the subscription")
			}
		case <-probe.C:
			// The channel of changes drops events when it is full.
			if b.o.Conn.IsConnected() && b.o.Conn.Stats().Reconnects != generation {
				return ErrReadAgain
			}
			if err := b.recheck(ctx, cancel, r); err != nil {
				return err
			}
		}
	}
}
