// Package jetstream is the bridge's NATS end.
//
//   - workers.go, worker.go, message.go: a durable consumer's messages in batches,
//     acknowledged only after a handler's word; poison.go, advisory.go: what ends in
//     quarantine instead
//
// The package knows nothing of MQTT.
package jetstream
