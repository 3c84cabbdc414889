package advice

import (
	"errors"
	"fmt"

	"mqtt-nats-bridge/internal/lease"
)

// leases is about the bucket of the replicas' leases.
func leases(err error) string {
	var missing *lease.MissingError
	var ttl *lease.TTLError
	switch {
	case errors.As(err, &missing):
		return fmt.Sprintf("create it with nats kv add %s --ttl %v --replicas %d --storage file, or set streams.manage: create", missing.Bucket, missing.TTL, missing.Replicas)
	case errors.As(err, &ttl):
		return fmt.Sprintf("nats kv edit %s --ttl 10s, or name another in lanes.bucket", ttl.Bucket)
	}
	return ""
}
