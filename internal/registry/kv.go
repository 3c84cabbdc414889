package registry

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/kv"
)

// KVOptions describes the bucket. All fields are required.
type KVOptions struct {
	Conn         *nats.Conn
	JetStream    natsjs.JetStream
	Bucket       string
	Certificates *certificates.Live // to fill
	Denied       *conn.Violations   // of Conn; see kv.Options
	Log          zerolog.Logger
}

// KV is a registry in a NATS KV bucket.
type KV struct {
	o        KVOptions
	bucket   *kv.Bucket
	followed *health.Condition
	refusals *health.Refusals
	loaded   chan struct{}
	once     sync.Once
	next     *certificates.Table // being filled by a reading in progress; nil: none
}

// NewKV returns a registry. Run reads it.
func NewKV(o KVOptions) *KV {
	k := &KV{o: o, loaded: make(chan struct{}), refusals: health.NewRefusals("registry", "certificate", o.Log)}
	k.followed = newFollowed(o.Log.With().Str("bucket", o.Bucket).Logger(), o.Certificates)
	k.bucket = kv.NewBucket(kv.Options{
		Conn: o.Conn, JetStream: o.JetStream, Name: o.Bucket, Reader: kvReader{k}, Changed: k.changed, Denied: o.Denied,
	})
	return k
}

// Run implements [Source].
func (k *KV) Run(ctx context.Context) { k.bucket.Run(ctx) }

// Loaded implements [Source].
func (k *KV) Loaded() <-chan struct{} { return k.loaded }

// State implements [Source].
func (k *KV) State() State {
	s := newState("kv", k.bucket.State().LoadedAt, k.followed)
	s.Entries = k.o.Certificates.Table().Len()
	s.Refused, s.RefusedEntries = k.refusals.List()
	return s
}

func (k *KV) changed(s kv.State) {
	if s.Live {
		k.followed.Clear()
		return
	}
	notFollowed(k.followed, s.LoadedAt, s.Err)
}

// kvReader keeps the methods of [kv.Reader] out of the exported method set of KV.
type kvReader struct{ k *KV }

// Begin implements [kv.Reader].
func (r kvReader) Begin() {
	r.k.refusals.Begin()
	r.k.next = certificates.NewTable()
}

func (r kvReader) table() *certificates.Table {
	if r.k.next != nil {
		return r.k.next
	}
	return r.k.o.Certificates.Table()
}

// Put implements [kv.Reader].
func (r kvReader) Put(key string, value []byte, _ uint64) {
	k := r.k
	tenant, device, err := ParseKey(key)
	if err != nil {
		k.refusals.Refuse(key, err)
		return
	}
	e, err := ParseEntry(value)
	if err != nil {
		k.refusals.Refuse(key, err)
		if e.Status == "" {
			r.keep(tenant, device)
			return
		}
	} else {
		k.refusals.Accept(key)
	}
	r.table().Put(tenant, device, e.Status, e.NotAfter)
}

// keep copies the last valid entry of a certificate into the new table.
func (r kvReader) keep(tenant, device string) {
	if r.k.next == nil {
		return
	}
	if c, ok := r.k.o.Certificates.Certificate([]byte(tenant + "/" + device)); ok {
		r.k.next.Put(tenant, device, c.Status, c.NotAfter)
	}
}

// Delete implements [kv.Reader].
func (r kvReader) Delete(key string, _ uint64) {
	r.k.refusals.Accept(key)
	if tenant, device, err := ParseKey(key); err == nil {
		r.table().Delete(tenant, device)
	}
}

// Done implements [kv.Reader].
func (r kvReader) Done() {
	k := r.k
	k.refusals.Done()
	if k.next != nil {
		k.next.Compact()
		k.o.Certificates.Use(k.next)
		k.next = nil
	}
	k.once.Do(func() { close(k.loaded) })
}
