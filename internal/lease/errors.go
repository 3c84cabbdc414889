package lease

import (
	"fmt"
	"time"
)

// BucketError means that the bucket cannot be read or written: every replica keeps its leases.
type BucketError struct{ Cause error }

// Error implements error.
func (e *BucketError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *BucketError) Unwrap() error { return e.Cause }

// MissingError means that the bucket does not exist. TTL and Replicas are the settings to create it
// with.
type MissingError struct {
	Bucket   string
	TTL      time.Duration
	Replicas int
}

// Error implements error.
func (e *MissingError) Error() string { return "the bucket " + e.Bucket + " does not exist" }

// TTLError means that leases cannot use the TTL of the bucket.
type TTLError struct {
	Bucket string
	TTL    time.Duration
}

// Error implements error.
func (e *TTLError) Error() string {
	return fmt.Sprintf("the bucket %s has a TTL of %v, but leases need one from 2s to 5m", e.Bucket, e.TTL)
}

// OtherBrokerError means that another replica under the same client id connects to another broker.
type OtherBrokerError struct {
	Replica Replica // the other
	Broker  string  // of this replica
}

// Error implements error.
func (e *OtherBrokerError) Error() string {
	r := &e.Replica
	return fmt.Sprintf("replica %s at %s has the same client id and connects to another broker, %s (this one: %s): the partitions it leases are served at one broker only",
		r.ID, r.Host, r.Broker, e.Broker)
}
