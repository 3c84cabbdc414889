package advice

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/internal/lease"
)

// leases is about the bucket of the replicas' leases, and about replicas that should not share it.
func leases(err error) string {
	var missing *lease.MissingError
	var ttl *lease.TTLError
	var bucket *lease.BucketError
	var broker *lease.OtherBrokerError
	switch {
	case errors.As(err, &missing):
		return fmt.Sprintf("create it with nats kv add %s --ttl %v --replicas %d --storage file, or set streams.manage: create", missing.Bucket, missing.TTL, missing.Replicas)
	case errors.As(err, &ttl):
		return fmt.Sprintf("nats kv edit %s --ttl 10s, or name another in lanes.bucket", ttl.Bucket)
	case errors.As(err, &broker):
		return "give each broker's bridges an mqtt.client_id of their own; bridges of one broker write the same host and port in mqtt.url"
	case errors.As(err, &bucket):
		return "it keeps its current leases; see mqtt-nats-bridge check --connect"
	}
	return ""
}
