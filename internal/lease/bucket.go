package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/kv"
)

// BucketOptions describes a bucket. All fields except Create are required.
type BucketOptions struct {
	// NATS has no reconnect buffer: a request fails if there is no connection, instead of waiting
	// for one.
	NATS *nats.Conn
	JS   natsjs.JetStream
	Name string
	// Stem is the prefix of the keys: fleets that share a bucket have different stems.
	Stem string
	// Create creates a missing bucket, with TTL and Replicas.
	Create   bool
	TTL      time.Duration
	Replicas int
}

// Bucket implements [Store] with a KV bucket.
type Bucket struct {
	opts BucketOptions
	kv   natsjs.KeyValue
}

// NewBucket returns a bucket. Open looks it up.
func NewBucket(o BucketOptions) *Bucket { return &Bucket{opts: o} }

// maxBytes has room for some thousand keys of all fleets; expired keys do not count.
const maxBytes = 1 << 20

// Open implements [Store].
func (b *Bucket) Open(ctx context.Context) (time.Duration, error) {
	bucket, err := b.opts.JS.KeyValue(ctx, b.opts.Name)
	if errors.Is(err, natsjs.ErrBucketNotFound) {
		if !b.opts.Create {
			return 0, b.missing()
		}
		bucket, err = b.create(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("open the bucket %s: %w", b.opts.Name, conn.Disconnected(err))
	}
	status, err := bucket.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the settings of bucket %s: %w", b.opts.Name, conn.Disconnected(err))
	}
	b.kv = bucket
	return status.TTL(), CheckTTL(b.opts.Name, status.TTL())
}

// CheckTTL reports a TTL that leases cannot use: a lease that never expires would keep its
// partition after its owner has died.
func CheckTTL(bucket string, ttl time.Duration) error {
	const least, most = time.Second, time.Hour
	if ttl < least || ttl > most {
		return &TTLError{bucket, ttl}
	}
	return nil
}

func (b *Bucket) missing() error { return &MissingError{b.opts.Name, b.opts.TTL, b.opts.Replicas} }

func (b *Bucket) create(ctx context.Context) (natsjs.KeyValue, error) {
	bucket, err := b.opts.JS.CreateKeyValue(ctx, natsjs.KeyValueConfig{
		Bucket: b.opts.Name, Description: "which replica of mqtt-nats-bridge leases which partition",
		TTL: b.opts.TTL, Replicas: b.opts.Replicas, Storage: natsjs.FileStorage, MaxBytes: maxBytes,
	})
	if errors.Is(err, natsjs.ErrBucketExists) { // another replica has created it with other settings
		return b.opts.JS.KeyValue(ctx, b.opts.Name)
	}
	return bucket, err
}

// Follow implements [Store]. It follows all keys of the bucket, including those of other fleets:
// otherwise it could not detect missing changes.
func (b *Bucket) Follow(ctx context.Context, entries chan<- Entry) error {
	send := func(e Entry) {
		select {
		case entries <- e:
		case <-ctx.Done():
		}
	}
	err := kv.NewBucket(kv.Options{
		Conn: b.opts.NATS, JetStream: b.opts.JS, Name: b.opts.Name,
		Reader: &reader{prefix: b.opts.Stem + ".", send: send},
		Probe:  min(2*time.Second, b.opts.TTL/4),
	}).Follow(ctx)
	if _, ok := errors.AsType[*kv.MissingError](err); ok {
		return b.missing()
	}
	return err
}

// reader passes on the keys of a fleet.
type reader struct {
	prefix string
	send   func(Entry)
	listed bool
}

// Begin implements [kv.Reader].
func (r *reader) Begin() {}

// Put implements [kv.Reader].
func (r *reader) Put(key string, value []byte, revision uint64) {
	if key, ok := strings.CutPrefix(key, r.prefix); ok {
		r.send(Entry{Key: key, Value: value, Revision: revision})
	}
}

// Delete implements [kv.Reader].
func (r *reader) Delete(key string, revision uint64) { r.Put(key, nil, revision) }

// Done implements [kv.Reader].
func (r *reader) Done() {
	if !r.listed {
		r.listed = true
		r.send(Entry{Listed: true})
	}
}

// Put implements [Store].
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	revision, err := b.kv.Put(ctx, b.opts.Stem+"."+key, value)
	return revision, conn.Disconnected(err)
}

// Write implements [Store].
func (b *Bucket) Write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := b.kv.Update(ctx, b.opts.Stem+"."+key, value, revision)
	if errors.Is(err, natsjs.ErrKeyRevisionMismatch) {
		return 0, ErrChanged
	}
	return revision, conn.Disconnected(err)
}

// Read implements [Store].
func (b *Bucket) Read(ctx context.Context, key string) (Entry, error) {
	e, err := b.kv.Get(ctx, b.opts.Stem+"."+key)
	switch {
	case errors.Is(err, natsjs.ErrKeyNotFound):
		return Entry{}, ErrAbsent
	case err != nil:
		return Entry{}, conn.Disconnected(err)
	}
	return Entry{Key: key, Value: e.Value(), Revision: e.Revision()}, nil
}
