// Package jetstream is the bridge's NATS end. It has no code of its own; its packages are:
//
//   - conn: a connection that keeps trying and says in one sentence why it is not up
//   - publish: messages in order, each until JetStream has it or will never take it
//   - streams: streams and consumers as declared, how they differ from what exists, and the
//     step between
//   - kv: a KV bucket, followed
//   - consume: a durable consumer's messages in batches, acknowledged only after a handler
//     has settled them, or stored in quarantine
//   - embedded: a nats-server within the process
//   - leaf: leaf mode, a nats-server that stores messages until the hub has them
//
// Only embedded and leaf import nats-server, and none knows MQTT.
package jetstream
