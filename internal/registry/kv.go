package registry

import (
	"cmp"
	"context"

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

// KV is a registry in a NATS KV bucket. It implements [kv.Reader].
type KV struct {
	*follower
	bucket   *kv.Bucket
	refusals *health.Refusals
	next     *certificates.Table // being filled by a reading in progress; nil: none
}

// NewKV returns a registry. Run reads it.
func NewKV(o KVOptions) *KV {
	k := &KV{
		follower: newFollower("kv", o.Certificates, o.Log.With().Str("bucket", o.Bucket).Logger()),
		refusals: health.NewRefusals("registry", "certificate", o.Log),
	}
	k.bucket = kv.NewBucket(kv.Options{
		Conn: o.Conn, JetStream: o.JetStream, Name: o.Bucket, Reader: k, Changed: k.changed, Denied: o.Denied,
	})
	return k
}

// Run implements [Source].
func (k *KV) Run(ctx context.Context) { k.bucket.Run(ctx) }

// State implements [Source].
func (k *KV) State() State {
	s := k.follower.State()
	s.Refused, s.RefusedEntries = k.refusals.List()
	return s
}

func (k *KV) changed(s kv.State) {
	if s.Live {
		k.followed.Clear()
		return
	}
	k.stale(s.Err)
}

// Begin implements [kv.Reader].
func (k *KV) Begin() {
	k.refusals.Begin()
	k.next = certificates.NewTable()
}

func (k *KV) table() *certificates.Table { return cmp.Or(k.next, k.certificates.Table()) }

// Put implements [kv.Reader].
func (k *KV) Put(key string, value []byte, _ uint64) {
	tenant, device, err := ParseKey(key)
	if err != nil {
		k.refusals.Refuse(key, err)
		return
	}
	e, err := ParseEntry(value)
	if err == nil {
		k.refusals.Accept(key)
	} else {
		k.refusals.Refuse(key, err)
	}
	if e.Status == "" { // keep the last valid entry
		c, ok := k.certificates.Certificate([]byte(tenant + "/" + device))
		if !ok {
			return
		}
		e = Entry{c.Status, c.NotAfter}
	}
	k.table().Put(tenant, device, e.Status, e.NotAfter)
}

// Delete implements [kv.Reader].
func (k *KV) Delete(key string, _ uint64) {
	k.refusals.Accept(key)
	if tenant, device, err := ParseKey(key); err == nil {
		k.table().Delete(tenant, device)
	}
}

// Done implements [kv.Reader].
func (k *KV) Done() {
	k.refusals.Done()
	if k.next != nil {
		k.use(k.next)
		k.next = nil
	}
}
