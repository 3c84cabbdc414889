package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/plan"
)

// leases checks that the bridge can lease partitions: the bucket, its settings, and every
// permission that the keys need.
func (n *natsCheck) leases(ctx context.Context) {
	if !n.config.Lanes.Partitions.Auto {
		return
	}
	bucket := n.config.Lanes.Bucket
	kv, err := ask(ctx, n, func(ctx context.Context) (natsjs.KeyValue, error) { return n.js.KeyValue(ctx, bucket) })
	switch create := n.config.Streams.Manage == config.ManageCreate; {
	case errors.Is(err, natsjs.ErrBucketNotFound) && create:
		n.report.Note("leases", "the bucket %s does not exist yet, the bridge creates it at start", bucket)
		n.mayCreate(ctx, "leases", "KV_"+bucket)
	case errors.Is(err, natsjs.ErrBucketNotFound):
		missing := &lease.MissingError{Bucket: bucket, TTL: n.config.Lanes.TTL, Replicas: n.config.Streams.Replicas}
		n.report.Fail("leases", "%v", advice.Append(missing))
		return
	case refused(err):
		n.report.Fail("leases", "%v: allow the user to publish to %s.STREAM.INFO.KV_%s", err, n.api, bucket)
		return
	case err != nil:
		n.report.Fail("leases", "the bucket %s: %v: make sure that it is a KV bucket, or set another bucket in lanes.bucket", bucket, err)
		return
	}
	key := n.config.MQTT.ClientID + ".check"
	n.leaseRight(ctx, "write leases", "$KV."+bucket+"."+key, nats.Header{natsjs.ExpectedStreamHeader: {impossibleStream}}) // stores nothing
	n.leaseRight(ctx, "answer the watch", "$JS.FC.KV_"+bucket+".check.check", nil)
	if kv == nil {
		return
	}
	n.leaseRight(ctx, "read leases", n.api+".DIRECT.GET.KV_"+bucket+".$KV."+bucket+"."+key, nil)
	n.leaseSettings(ctx, kv)
	n.replicas(ctx, kv)
}

// leaseRight checks that the user may publish to a subject. The content of the answer does not
// matter, nor does a missing answer.
func (n *natsCheck) leaseRight(ctx context.Context, what, subject string, header nats.Header) {
	_, err := n.request(ctx, &nats.Msg{Subject: subject, Header: header})
	if refused(err) {
		n.report.Fail("leases", "the user may not %s: %v: allow publishing to %s", what, err, subject)
	} else if err != nil && !errors.Is(err, nats.ErrNoResponders) {
		n.report.Note("leases", "could not determine whether the user may %s: %v", what, err)
	}
}

func (n *natsCheck) leaseSettings(ctx context.Context, kv natsjs.KeyValue) {
	status, err := ask(ctx, n, kv.Status)
	if err != nil {
		n.report.Fail("leases", "the settings of bucket %s could not be read: %v", kv.Bucket(), err)
		return
	}
	ttl, want := status.TTL(), n.config.Lanes.TTL
	if err := lease.CheckTTL(kv.Bucket(), ttl); err != nil {
		n.report.Fail("leases", "%v", advice.Append(err))
		return
	}
	if ttl != want {
		n.report.Note("leases", "the bucket %s has a TTL of %s, lanes.ttl is %s; the bucket's TTL takes precedence", kv.Bucket(), ttl, want)
	}
	if s, ok := status.(*natsjs.KeyValueBucketStatus); ok {
		if is, want := s.StreamInfo().Config.Replicas, n.config.Streams.Replicas; is < want {
			n.report.Note("leases", "the bucket %s has %d replicas, streams.replicas is %d: nats kv edit %s --replicas %d", kv.Bucket(), is, want, kv.Bucket(), want)
		}
	}
}

// replicas reads the keys with a watch, as the bridge does, and reports the running replicas.
func (n *natsCheck) replicas(ctx context.Context, kv natsjs.KeyValue) {
	prefix := n.config.MQTT.ClientID + "."
	var watch natsjs.KeyWatcher
	entries, err := ask(ctx, n, func(ctx context.Context) (entries []natsjs.KeyValueEntry, err error) {
		if watch, err = kv.Watch(ctx, prefix+">"); err != nil {
			return nil, err
		}
		for e := range watch.Updates() {
			if e == nil {
				break
			}
			entries = append(entries, e)
		}
		err = watch.Stop()
		// The server answers in order, so a permission violation arrives before the PONG.
		return entries, errors.Join(err, n.nc.FlushWithContext(ctx))
	})
	if watch == nil {
		n.report.Fail("leases", "%v: allow the user to publish to %s.CONSUMER.CREATE.KV_%s.>", err, n.api, kv.Bucket())
		return
	}
	host, _ := os.Hostname()
	own := plan.BrokerIdentity(n.config, cmp.Or(host, "unknown"))
	var hosts []string
	leased := 0
	for _, e := range entries {
		var r lease.Replica
		var l lease.Record
		key := strings.TrimPrefix(e.Key(), prefix)
		switch {
		case strings.HasPrefix(key, "replica.") && json.Unmarshal(e.Value(), &r) == nil && !r.Leaving:
			hosts = append(hosts, fmt.Sprintf("%s at %s", r.ID, r.Host))
			if r.Broker != "" && !lease.SameBroker(r.Broker, own) {
				n.report.Fail("leases", "%v", advice.Append(&lease.OtherBrokerError{Replica: r, Broker: own}))
			}
		case json.Unmarshal(e.Value(), &l) == nil && l.Owner != "":
			leased++
		}
	}
	if refused(err) {
		n.report.Fail("leases", "the watch cannot be ended: %v: allow the user to publish to %s.CONSUMER.DELETE.KV_%s.>", err, n.api, kv.Bucket())
		return
	}
	if err != nil {
		n.report.Note("leases", "end the watch of bucket %s: %v", kv.Bucket(), err)
		return
	}
	who := "no replica is running"
	if len(hosts) > 0 {
		who = fmt.Sprintf("%d replicas are running", len(hosts))
		if len(hosts) == 1 {
			who = "1 replica is running"
		}
		who += fmt.Sprintf(", %d of %d partitions are leased: %s", leased, len(n.config.Lanes.Partitions.List), strings.Join(hosts, ", "))
	}
	n.report.OK("leases", "bucket %s can be read and watched, %s", kv.Bucket(), who)
}
