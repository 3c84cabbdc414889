package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// BucketOptions describe a bucket. All but Create are required.
type BucketOptions struct {
	NATS *nats.Conn
	JS   natsjs.JetStream
	Name string
	// Stem begins the keys: fleets that share a bucket differ in it.
	Stem string
	// Create makes the bucket where it is missing, with TTL and Replicas.
	Create   bool
	TTL      time.Duration
	Replicas int
}

// Bucket is a KV bucket as a [Store].
type Bucket struct {
	opts BucketOptions
	kv   natsjs.KeyValue

	stop context.CancelFunc // nil: nothing is watched
	wait sync.WaitGroup
}

// NewBucket returns a bucket that is looked for when it is opened.
func NewBucket(o BucketOptions) *Bucket { return &Bucket{opts: o} }

// maxBytes is room for some thousand keys of all fleets; what expired counts no
// more.
const maxBytes = 1 << 20

var errDisconnected = errors.New("NATS is not connected")

// Open implements [Store].
func (b *Bucket) Open(ctx context.Context) (Opened, error) {
	b.Close()
	if !b.opts.NATS.IsConnected() {
		return Opened{}, errDisconnected
	}
	kv, ttl, err := b.find(ctx)
	if err != nil {
		return Opened{}, err
	}
	// The watch lives as long as the context it was begun with.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	late := context.AfterFunc(ctx, stop)
	watch, err := kv.Watch(life, b.opts.Stem+".>")
	if !late() || err != nil {
		stop()
		return Opened{}, fmt.Errorf("watch the bucket %s: %w", b.opts.Name, cmp.Or(err, context.Cause(ctx)))
	}
	entries := make(chan Entry)
	b.kv, b.stop = kv, stop
	b.wait.Go(func() { b.forward(life, watch, entries) })
	return Opened{TTL: ttl, Entries: entries}, nil
}

func (b *Bucket) find(ctx context.Context) (natsjs.KeyValue, time.Duration, error) {
	kv, err := b.opts.JS.KeyValue(ctx, b.opts.Name)
	if errors.Is(err, natsjs.ErrBucketNotFound) {
		kv, err = b.create(ctx)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the bucket %s: %w", b.opts.Name, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the settings of bucket %s: %w", b.opts.Name, err)
	}
	ttl := status.TTL()
	return kv, ttl, CheckTTL(b.opts.Name, ttl)
}

// CheckTTL: a lease that never expires would keep its partition after its holder
// has died.
func CheckTTL(bucket string, ttl time.Duration) error {
	const least, most = time.Second, time.Hour
	if ttl < least || ttl > most {
		return fmt.Errorf("the bucket %s has a TTL of %v, and leases need one of 2s to 5m: nats kv edit %s --ttl 10s, or name another in lanes.bucket", bucket, ttl, bucket)
	}
	return nil
}

func (b *Bucket) create(ctx context.Context) (natsjs.KeyValue, error) {
	if !b.opts.Create {
		return nil, fmt.Errorf("it does not exist, and streams.manage is not create: nats kv add %s --ttl %v --replicas %d --storage file", b.opts.Name, b.opts.TTL, b.opts.Replicas)
	}
	kv, err := b.opts.JS.CreateKeyValue(ctx, natsjs.KeyValueConfig{
		Bucket: b.opts.Name, Description: "which replica of mqtt-nats-bridge holds which partition",
		TTL: b.opts.TTL, Replicas: b.opts.Replicas, Storage: natsjs.FileStorage, MaxBytes: maxBytes,
	})
	if errors.Is(err, natsjs.ErrBucketExists) { // another replica's, of other settings
		return b.opts.JS.KeyValue(ctx, b.opts.Name)
	}
	return kv, err
}

// forward passes the watch on until Close.
func (b *Bucket) forward(life context.Context, watch natsjs.KeyWatcher, entries chan<- Entry) {
	defer func() {
		// nats.go waits for somebody to take what it has.
		for range watch.Updates() {
		}
	}()
	for {
		select {
		case e, ok := <-watch.Updates():
			if !ok {
				close(entries)
				return
			}
			out := Entry{Listed: true}
			if e != nil {
				out = b.entry(e)
			}
			select {
			case entries <- out:
			case <-life.Done():
				return
			}
		case <-life.Done():
			return
		}
	}
}

func (b *Bucket) entry(e natsjs.KeyValueEntry) Entry {
	return Entry{Key: strings.TrimPrefix(e.Key(), b.opts.Stem+"."), Value: e.Value(), Revision: e.Revision()}
}

// Close implements [Store].
func (b *Bucket) Close() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
		b.wait.Wait()
	}
}

// Put implements [Store].
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if !b.opts.NATS.IsConnected() {
		return 0, errDisconnected
	}
	return b.kv.Put(ctx, b.opts.Stem+"."+key, value)
}

// Write implements [Store].
func (b *Bucket) Write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if !b.opts.NATS.IsConnected() {
		return 0, errDisconnected
	}
	revision, err := b.kv.Update(ctx, b.opts.Stem+"."+key, value, revision)
	if errors.Is(err, natsjs.ErrKeyRevisionMismatch) {
		return 0, ErrChanged
	}
	return revision, err
}

// Read implements [Store].
func (b *Bucket) Read(ctx context.Context, key string) (Entry, error) {
	if !b.opts.NATS.IsConnected() {
		return Entry{}, errDisconnected
	}
	e, err := b.kv.Get(ctx, b.opts.Stem+"."+key)
	switch {
	case errors.Is(err, natsjs.ErrKeyNotFound):
		return Entry{}, ErrAbsent
	case err != nil:
		return Entry{}, err
	}
	return b.entry(e), nil
}
