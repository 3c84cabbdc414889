package advice

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/jetstream/kv"
)

// buckets returns advice about KV buckets: one that a program watches, and that of the replicas'
// leases, which bridges of different brokers must not share.
func buckets(err error) string {
	var watched *kv.MissingError
	var missing *lease.MissingError
	var ttl *lease.TTLError
	var bucket *lease.BucketError
	var broker *lease.OtherBrokerError
	switch {
	case errors.As(err, &watched):
		return "create it with nats kv add " + watched.Bucket
	case errors.As(err, &missing):
		return fmt.Sprintf("create it with nats kv add %s --ttl %v --replicas %d --storage file, or set streams.manage: create", missing.Bucket, missing.TTL, missing.Replicas)
	case errors.As(err, &ttl):
		return fmt.Sprintf("run nats kv edit %s --ttl 10s, or name another bucket in lanes.bucket", ttl.Bucket)
	case errors.As(err, &broker):
		return "use a different mqtt.client_id per broker; bridges of the same broker must write the same host and port in mqtt.url"
	case errors.As(err, &bucket):
		return "the bridge keeps its current leases; run mqtt-nats-bridge check --connect"
	}
	return ""
}
