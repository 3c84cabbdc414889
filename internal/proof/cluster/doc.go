// Package cluster tests three nats-servers, several replicas of the bridge, and all faults
// together.
package cluster
