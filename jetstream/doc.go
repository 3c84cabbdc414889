// Package jetstream is the bridge's NATS end.
//
//   - publisher.go and its neighbours: messages in order, each until JetStream
//     has it or will never take it
//   - workers.go, worker.go, message.go: a durable consumer's messages in batches,
//     acknowledged only after a handler's word; poison.go, advisory.go: what ends in
//     quarantine instead
//
// The package knows nothing of MQTT.
package jetstream
