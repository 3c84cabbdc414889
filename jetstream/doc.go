// Package jetstream is the bridge's NATS end.
//
//   - streams.go, consumers.go, filter.go: what must exist, as values
//   - plan.go, difference.go, manage.go: what exists against what must, how it
//     reads, and the step between
//   - publisher.go and its neighbours: messages in order, each until JetStream
//     has it or will never take it
//   - workers.go, worker.go, message.go: a durable consumer's messages in batches,
//     acknowledged only after a handler's word; poison.go, advisory.go: what ends in
//     quarantine instead
//
// The package knows nothing of MQTT.
package jetstream
