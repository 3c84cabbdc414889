// Package cluster has the tests with three nats-servers or several replicas of the bridge, and those
// that mix all faults.
package cluster
