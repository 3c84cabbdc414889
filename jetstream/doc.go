// Package jetstream is the NATS side of the bridge. It contains no code. Its packages are:
//
//   - conn: a connection that retries indefinitely and reports in one sentence why it is down
//   - publish: the ordered publisher, which keeps each message until JetStream has stored it
//     or refused it permanently
//   - streams: declared streams and consumers, their difference from the existing ones, and its
//     application
//   - kv: a watcher of a KV bucket that survives restarts of the server
//   - consume: a durable consumer's messages in batches, acknowledged only after a handler
//     has settled them, or stored in quarantine
//   - embedded: a nats-server within the process
//   - leaf: leaf mode, a nats-server that stores messages until the hub has them
//
// Only embedded and leaf import nats-server, and none knows MQTT.
package jetstream
